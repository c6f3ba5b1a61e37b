"""Plays a plan: the gateway in virtual time, between a node, a backend, those who push, and an operator."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import random
import tempfile
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import msgspec
from virtual_time import run_virtual, virtual_loop
from whole_edges import Node, VirtualAlarm, VirtualRoom, VirtualStore
from whole_life import Life
from whole_plan import LENGTH_S, Arrival, Batch, Change, End, Operator, Plan, Push, is_in
from whole_story import Call, Key, Offer, Story

from gateway.app import bridges, inbound_parts
from gateway.app import parts as parts_module
from gateway.app.parts import Parts
from gateway.clock import NS_PER_S
from gateway.errors import StoreError
from gateway.events import TpsKind
from gateway.http.client import HttpClient
from gateway.ops.memory import MemoryGauge
from gateway.outbound.answers import PushAnswer
from gateway.outbound.options import KEY, NOT_BEFORE, PREFER, PRIORITY, RECEIPTS, TTL, UNCERTAIN
from gateway.outbound.send import LATE_NS
from gateway.store import sqlite_open
from gateway.store.protocol import ParkedQuery

REST_S: Final = 600.0
"""With nothing to do, in which nothing must be done."""
LIVES_MAX: Final = 20
"""Of the processes of a run: more of them end for a reason of their own."""
LOOKED_AT_AGAIN: Final = 5
"""One send in so many, after the last restart."""
TRIES: Final = 40
"""Of whoever pushes with a key and is not answered, or refused."""
SPAM_S: Final = 25 * 3600.0
DISKS: Final = Path("/dev/shm")
_KINDS: Final = {"message": TpsKind.RECEIVE, "delivered": TpsKind.DELIVERED, "read": TpsKind.READ}


class World:
    """All that is around the processes of one run."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.story = Story()
        self.directory = directory
        self.node = Node(self)
        self._rng = random.Random(f"{plan.seed}/world")
        self._began_ns = virtual_loop().now_ns()
        self._began_wall_ms = virtual_loop().wall_ms()
        self._wall_max_ms = 0
        self._is_healed = False
        self._is_over = False
        self._away_s = 0.0
        self._charged: set[Key] = set()
        self._window: deque[tuple[int, int, bool]] = deque()
        self._actors: dict[asyncio.Task[None], None] = {}
        self._ids: dict[int, str] = {}
        self._batch_ids: dict[int, str] = {}
        self.life: Life

    # -- what the edges ask

    def now_s(self) -> float:
        return (virtual_loop().now_ns() - self._began_ns) / NS_PER_S

    def is_healed(self) -> bool:
        return self._is_healed

    def commit_s(self) -> float:
        return self.plan.commit_s(self.now_s())

    def is_full(self) -> bool:
        return not self._is_healed and is_in(self.plan.full_s, self.now_s())

    def plan_tps(self) -> int:
        return self.life.parts.plan_tps

    def wall_max_ms(self) -> int:
        self._wall_max_ms = max(self._wall_max_ms, virtual_loop().wall_ms())
        return self._wall_max_ms

    def count_send(self) -> tuple[int, int, int]:
        """Count a send: all events of the second that ends with it, the sends of them, and what has only just arrived."""
        cost, now_ns = self.plan.settings.tps_cost.of(TpsKind.SEND), virtual_loop().now_ns()
        self._window.append((now_ns, cost, True))
        while self._window[0][0] <= now_ns - NS_PER_S:
            self._window.popleft()
        sends = sum(cost for _, cost, is_send in self._window if is_send)
        just_now = sum(
            cost for at_ns, cost, is_send in self._window if not is_send and at_ns >= now_ns - LATE_NS
        )
        return sum(cost for _, cost, _ in self._window), sends, just_now

    def _count_arrivals(self, keys: list[Key]) -> None:
        for key in keys:
            kind = _KINDS.get(key[0])
            if kind is not None and key not in self._charged:
                self._charged.add(key)
                self._window.append((virtual_loop().now_ns(), self.plan.settings.tps_cost.of(kind), False))

    def offer(self, delay_s: float, keys: list[Key], group: str) -> None:
        self._act(self._offer(delay_s, _statuses(keys, group, is_cloud=self._is_cloud), keys))

    @property
    def _is_cloud(self) -> bool:
        return self.plan.settings.dialect == "cloud"

    def _act(self, actor: Any) -> None:
        task = asyncio.create_task(actor)
        self._actors[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._actors.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.story.complain(f"an actor failed: {error!r}")

    # -- the whole

    async def play(self) -> Story:
        """Everything, to the end."""
        virtual_loop().set_exception_handler(lambda _loop, context: self._unheard(context))
        self._begin_life()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._supervise())
            await self._play()
        await self._look_again()
        self.story.ended_ns = virtual_loop().now_ns()
        return self.story

    async def _play(self) -> None:
        plan = self.plan
        for arrival in plan.arrivals:
            self._act(self._arrive(arrival))
        for push in plan.pushes:
            self._act(self._push(push))
        for batch in plan.batches:
            self._act(self._push_batch(batch))
        for change in plan.changes:
            self._act(self._change(change))
        side = [
            asyncio.create_task(work)
            for work in (self._end_processes(), self._operate(), self._jump(), self._stall())
        ]
        await asyncio.sleep(LENGTH_S)
        await asyncio.gather(*side)
        await self._heal()
        await self._settle()
        await self._rest()
        self._is_over = True
        await self._look_back()
        self.life.gateway.stop()

    def _unheard(self, context: dict[str, Any]) -> None:
        """Somebody failed and nobody looked."""
        if any(life.how == "kill" for life in self.story.lives) and "exception" not in context:
            return  # of a process that is gone from one moment to the next something is left
        self.story.complain(f"unheard: {context['message']} {context.get('exception')!r}")

    def open_store(self, *args: Any, **named: Any) -> VirtualStore:
        """The process that is starting opens it."""
        return self.life.open_store(*args, **named)

    def _begin_life(self) -> None:
        self.life = Life(self, len(self.story.lives))
        self.life.start()

    async def _supervise(self) -> None:
        while True:
            await self.life.ended()
            if self._is_over:
                return
            await asyncio.sleep(self._away_s)
            assert len(self.story.lives) <= LIVES_MAX, self.story.problems
            self._begin_life()

    async def _open(self) -> Life:
        """The process that has its doors open, when there is one."""
        while not self.life.is_open:
            await asyncio.sleep(0.05)
        return self.life

    async def _heal(self) -> None:
        self.story.say("-- all troubles are over")
        self._is_healed = True
        while True:
            life = await self._open()
            assert life.store is not None
            life.store.thread.fails_next = None
            with contextlib.suppress(StoreError):
                if await life.request(partial(self._resume, life)):
                    return

    async def _resume(self, life: Life, _parts: Parts) -> bool:
        await life.gateway._state.resume()
        return True

    def settle_s(self) -> float:
        """In which all that is left must be worked off: each send by itself, at the lowest ceiling, and all waits."""
        plan, settings = self.plan, self.plan.settings
        sends = 40 + 3 * len(plan.all_pushes()) + 8 * len(plan.arrivals)
        events = sends * 12  # the receipts of a large group, and its own
        work_s = events / (settings.tps * 0.05)
        waits_s = sum(4.0**attempt for attempt in range(1, settings.send_attempts + 1)) + 600
        pairs_s = sends * settings.pair_limit_interval_ms / 1000
        is_spam = any(code in (471, 131048) for _, code in plan.node.errors)
        jumps_s = sum(abs(by_ms) for _, by_ms in plan.jumps) / 1000
        return work_s + waits_s + pairs_s + jumps_s + is_spam * 3 * SPAM_S

    async def _settle(self) -> None:
        began_s = self.now_s()
        deadline_s = began_s + self.settle_s()
        while self._actors or not self.life.is_open or self.life.waiting():
            if self.now_s() > deadline_s:
                left = [(queue.side, queue.backlog.total()) for queue in self.life.parts.queues]
                self.story.complain(f"for ever wait {left}, and {len(self._actors)} actors")
                for actor in list(self._actors):
                    actor.cancel()
                return
            await asyncio.sleep(0.25 if self.now_s() - began_s < 60 else 5.0)

    async def _rest(self) -> None:
        await asyncio.sleep(60.0)
        before = virtual_loop().virtual.jumps
        await asyncio.sleep(REST_S)
        jumps = virtual_loop().virtual.jumps - before
        if jumps > 3 * REST_S / 60 + 5:  # a clean-up a minute, and its two commits
            self.story.complain(f"{jumps} wake-ups in {REST_S:.0f} s with nothing to do")
        self.life.check_books()

    async def _look_back(self) -> None:
        self.story.sends = await self._list()
        store = self.life.store
        assert store is not None
        for parked in await store.read_parked(ParkedQuery(), 0, 10_000):
            self.story.dead.append((store.send_id(parked.record.seq), parked.reason, parked.record.body))
        books = self.life.parts.books
        self.story.books = {(kind.label, None): count for kind, count in books.accepted.items()}
        for (kind, outcome), count in books.outcomes.items():
            self.story.books[kind.label, outcome.label] = count

    async def _list(self) -> list[dict[str, Any]]:
        """What is told of every send there was."""
        store = self.life.store
        assert store is not None
        found = []
        for seq in range(1, store.next_seq()):
            told = await self._find(store.send_id(seq))
            if told is not None:
                found.append(told)
        return found

    async def _find(self, send_id: str) -> dict[str, Any] | None:
        answer = await self.life.parts.push.queries.find(send_id)
        found: dict[str, Any] | None = json.loads(answer.body) if answer.status == 200 else None
        return found

    async def _look_again(self) -> None:
        """A process that begins then finds it all the same, and nothing to do."""
        self._begin_life()
        life = await self._open()
        if life.waiting():
            self.story.complain(f"after the last restart {life.waiting()} wait")
        life.check_books()
        told = self.story.sends[::LOOKED_AT_AGAIN]
        for send in told:
            if await self._find(send["id"]) != send:
                self.story.complain(f"after the last restart another thing is told of {send['id']}")
        life.gateway.stop()
        await life.ended()

    # -- the node's webhooks

    async def _arrive(self, arrival: Arrival) -> None:
        keys: list[Key] = [("message", message_id, who) for message_id, who in arrival.messages]
        keys += [("failed", message_id, who) for message_id, who in arrival.failures]
        body = _arrival_body(arrival)
        await self._offer(arrival.at_s, body, keys)
        if arrival.again_s is not None:
            await self._offer(arrival.again_s, body, keys)

    async def _offer(self, delay_s: float, body: bytes, keys: list[Key]) -> None:
        await asyncio.sleep(delay_s)
        while True:
            life = self.life
            offer = Offer(keys, life.story.number, virtual_loop().now_ns())
            self.story.offers.append(offer)
            reception = await life.request(lambda parts: self._receive(parts, body, keys))
            offer.ended_ns = virtual_loop().now_ns()
            offer.status = None if reception is None else reception.status
            self.story.say(f"webhook {[key[:2] for key in keys]}: {offer.status}")
            if offer.status == 200:
                return
            await asyncio.sleep(self._rng.uniform(0.3, 3.0))

    async def _receive(self, parts: Parts, body: bytes, keys: list[Key]) -> Any:
        self._count_arrivals(keys)
        return await parts.receiver.receive(body)

    # -- who pushes

    async def _push(self, push: Push) -> None:
        await asyncio.sleep(push.at_s)
        call = await self._push_until_taken(push)
        if call is None or not push.key:
            return
        for again_s in push.again_s:
            await asyncio.sleep(again_s)
            await self._push_once(push, push)
        if push.other_s is not None:
            await asyncio.sleep(push.other_s)
            await self._push_once(push, push, text="another")

    async def _push_until_taken(self, push: Push) -> Call | None:
        for _ in range(TRIES):
            call = await self._push_once(push, push)
            if call.status is not None and call.status not in (429, 503):
                return call
            if call.status != 429 and not push.key:
                return None  # it may have been taken
            await asyncio.sleep(self._rng.uniform(0.5, 5.0))
        return None

    async def _push_once(self, push: Push, *pushes: Push, text: str = "") -> Call:
        body = self._message(push, text or push.tag)
        headers = self._options(push)
        what = "other" if text else "push"
        return await self._call(
            what, pushes, lambda parts: parts.push.pushes.accept(json.dumps(body).encode(), headers)
        )

    async def _push_batch(self, batch: Batch) -> None:
        await asyncio.sleep(batch.at_s)
        messages = [
            {**self._message(push, push.tag), "gateway": _own(self._options(push))} for push in batch.pushes
        ]
        headers = {KEY: batch.key} if batch.key else {}
        body = json.dumps({"messages": messages}).encode()
        for _ in range(TRIES):
            call = await self._call(
                "batch", batch.pushes, lambda parts: parts.push.batches.accept(body, headers)
            )
            if call.status is not None and call.status not in (429, 503):
                return
            if call.status != 429 and not batch.key:
                return
            await asyncio.sleep(self._rng.uniform(0.5, 5.0))

    def _message(self, push: Push, text: str) -> dict[str, Any]:
        head = {"recipient_type": "group"} if push.is_group else {}
        return {"to": push.to, **head, "type": "text", "text": {"body": text}}

    def _options(self, push: Push) -> dict[str, str]:
        found = {PRIORITY: push.cls, RECEIPTS: push.mask}
        if push.key:
            found[KEY] = push.key
        if push.ttl_s:
            found[TTL] = str(push.ttl_s)
        if push.not_before_s is not None:
            found[NOT_BEFORE] = str(self._began_wall_ms // 1000 + push.not_before_s)
        if push.uncertain:
            found[UNCERTAIN] = push.uncertain
        if push.wait_s:
            found[PREFER] = f"wait={push.wait_s}"
        return found

    async def _call(self, what: str, pushes: tuple[Push, ...], ask: Any, target: str = "") -> Call:
        loop = virtual_loop()
        call = Call(what, pushes, self.life.story.number, loop.now_ns(), loop.wall_ms(), target=target)
        self.story.calls.append(call)
        answer: PushAnswer | None = await self.life.request(ask)
        call.ended_ns, call.ended_wall_ms = loop.now_ns(), loop.wall_ms()
        if answer is not None:
            call.status = answer.status
            with contextlib.suppress(ValueError):  # the node's own answer, whatever it is
                call.answer = json.loads(answer.body)
            if call.status == 202 and what != "other":
                for push, send_id in zip(pushes, call.ids(), strict=True):
                    if send_id is not None:
                        self._ids[push.number] = send_id
                        if what == "batch" and call.answer["batch_id"]:
                            self._batch_ids[push.number] = call.answer["batch_id"]
        names = ",".join(push.tag for push in pushes)
        self.story.say(f"{what} {names} {target}: {call.status} {call.answer.get('state', call.ids())}")
        return call

    async def _change(self, change: Change) -> None:
        await asyncio.sleep(change.at_s)
        is_batch = change.what.endswith("_batch")
        target = (self._batch_ids if is_batch else self._ids).get(change.number)
        if target is None:
            return
        pushes = tuple(push for push in self.plan.all_pushes() if push.number == change.number)
        if is_batch:
            numbers = {number for number, batch_id in self._batch_ids.items() if batch_id == target}
            pushes = tuple(push for push in self.plan.all_pushes() if push.number in numbers)

        def ask(parts: Any) -> Any:
            asked = {
                "cancel": lambda: parts.push.changes.cancel(target),
                "reclass": lambda: parts.push.changes.reclass(target, change.cls),
                "query": lambda: parts.push.queries.find(target),
                "cancel_batch": lambda: parts.push.changes.cancel_batch(target),
                "reclass_batch": lambda: parts.push.changes.reclass_batch(target, change.cls),
                "query_batch": lambda: parts.push.queries.find_batch(target, {}),
            }
            return asked[change.what]()

        await self._call(change.what, pushes, ask, target)

    # -- troubles, and the operator

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self.now_s()))

    async def _end_processes(self) -> None:
        for end in self.plan.ends:
            await self._until(end.at_s)
            await self._end(end)

    async def _end(self, end: End) -> None:
        for _ in range(end.turns):
            await asyncio.sleep(0)
        life = self.life
        if life.story.ended_ns is not None or life.run is None or life.run.done():
            return
        self._away_s = end.away_s
        self.story.say(f"-- {end.how}")
        if end.how == "kill":
            life.kill(is_written=end.is_written)
        elif life.is_open:
            life.story.how = end.how
            match end.how:
                case "stop":
                    life.gateway.stop()
                case "drain":
                    life.gateway._finish()
                case "disk":
                    assert life.store is not None
                    life.store.thread.fails_next = end.is_written

    async def _operate(self) -> None:
        for one in self.plan.operators:
            await self._until(one.at_s)
            life = self.life
            self.story.say(f"-- operator: {one.what}")
            is_done = None
            with contextlib.suppress(StoreError):
                is_done = await life.request(partial(self._do, life, one))
            self.story.is_retry_unheard |= one.what == "retry" and is_done is None

    async def _do(self, life: Life, one: Operator, parts: Parts) -> bool:
        state, letters = life.gateway._state, parts.dead_letters
        store = life.store
        assert store is not None
        match one.what:
            case "isolated" | "suspended":
                await state.switch_off(one.what)
            case "running":
                await state.resume()
            case "gone":
                await state.resume("gone")
            case "plan":
                parts.set_plan(one.tps)
            case "retry":
                moved = await letters.retry(ParkedQuery(), 1000)
                self.story.retried |= {store.send_id(old): store.send_id(new) for old, new in moved.items()}
            case "discard":
                upto = store.next_seq() - 1
                found = await store.read_parked(ParkedQuery(upto_seq=upto), 0, 1000)
                for parked in found:
                    self.story.discarded.append(
                        (store.send_id(parked.record.seq), parked.record.body.decode())
                    )
                await letters.discard(ParkedQuery(upto_seq=upto), 1000)
        return True

    async def _jump(self) -> None:
        for at_s, by_ms in self.plan.jumps:
            await self._until(at_s)
            self.wall_max_ms()
            self.story.say(f"-- the wall clock is set by {by_ms} ms")
            virtual_loop().wall_set_ms += by_ms

    async def _stall(self) -> None:
        for at_s, length_s in self.plan.stalls:
            await self._until(at_s)
            self.story.say(f"-- the loop stands still for {length_s} s")
            virtual_loop().virtual.now_ns += int(length_s * NS_PER_S)


def _own(options: dict[str, str]) -> dict[str, str]:
    """A message's own options in a batch."""
    names = {
        PRIORITY: "priority", RECEIPTS: "receipts", KEY: "idempotency_key", TTL: "ttl", NOT_BEFORE: "not_before",
        UNCERTAIN: "uncertain",
    }  # fmt: skip
    return {names[name]: value for name, value in options.items() if name in names}


def _statuses(keys: list[Key], group: str, *, is_cloud: bool) -> bytes:
    made: list[dict[str, Any]] = []
    for word, message_id, who in keys:
        one: dict[str, Any] = {
            "id": message_id,
            "status": word,
            "timestamp": "1700000000",
            "recipient_id": who,
        }
        if group and is_cloud:
            one |= {"recipient_id": group, "recipient_type": "group", "recipient_participant_id": who}
        elif group:
            one["group_id"] = group
        made.append(one)
    return _wrapped({"statuses": made}, is_cloud=is_cloud)


def _arrival_body(arrival: Arrival) -> bytes:
    messages = [
        {"id": message_id, "from": who, "type": "text", "text": {"body": "hi"}}
        for message_id, who in arrival.messages
    ]
    value: dict[str, Any] = {"messages": messages}
    if arrival.failures:
        value["statuses"] = [
            {"id": message_id, "status": "failed", "timestamp": "1700000000", "recipient_id": who}
            for message_id, who in arrival.failures
        ]
    return _wrapped(value, is_cloud=arrival.is_cloud)


def _wrapped(value: dict[str, Any], *, is_cloud: bool) -> bytes:
    if not is_cloud:
        return json.dumps(value).encode()
    changes = [{"field": "messages", "value": {"messaging_product": "whatsapp", **value}}]
    top = {"object": "whatsapp_business_account", "entry": [{"id": "9", "changes": changes}]}
    return json.dumps(top).encode()


class CalledBackend(bridges.HttpBackend):
    """On an endpoint of ours, which is not native."""

    def __init__(self, http: HttpClient, url: str) -> None:
        super().__init__(http, url)
        self.route = None


@contextlib.contextmanager
def _edges(world: World) -> Iterator[None]:
    """Sockets, the disk's thread and the kernel's timer are the world's."""
    rng = random.Random(f"{world.plan.seed}/secrets")
    secrets = SimpleNamespace(token_hex=lambda size: rng.randbytes(size).hex(), token_bytes=rng.randbytes)
    places: list[tuple[Any, dict[str, Any]]] = [
        (
            parts_module,
            {
                "SqliteStore": world.open_store,
                "DiskRoom": lambda *_: VirtualRoom(world),
                "KernelAlarm": VirtualAlarm,
                "HttpClient": lambda timeout_ms, *_: world.life.node_http(timeout_ms),
                "tls_context": lambda *_args, **_named: None,
            },
        ),
        (
            bridges,
            {
                "HttpClient": lambda timeout_ms, *_: world.life.backend_http(timeout_ms),
                "HttpBackend": CalledBackend,
            },
        ),
        (inbound_parts, {"MemoryGauge": lambda: MemoryGauge(Path("/nonexistent"))}),
        (sqlite_open, {"secrets": secrets}),
    ]
    with contextlib.ExitStack() as stack:
        for place, names in places:
            stack.enter_context(patch.multiple(place, **names))
        yield


def play(plan: Plan) -> Story:
    """Play a plan on a virtual loop and a disk of its own."""
    with tempfile.TemporaryDirectory(dir=DISKS if DISKS.is_dir() else None) as name:
        directory = Path(name)
        plan = _placed(plan, directory)

        async def main() -> Story:
            world = World(plan, directory)
            with _edges(world):
                return await world.play()

        logging.disable(logging.CRITICAL)
        try:
            return run_virtual(main())
        finally:
            logging.disable(logging.NOTSET)


def _placed(plan: Plan, directory: Path) -> Plan:
    settings = msgspec.structs.replace(plan.settings, store_path=directory)
    return dataclasses.replace(plan, settings=settings)
