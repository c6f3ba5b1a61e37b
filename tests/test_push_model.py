"""Random pushes, batches, keys, cancels, class changes, expiries, schedules and restarts, beside a plain model.

At every turn of the loop the books hold: accepted = outcomes + waiting. What the model says of each send is what is
told of it, nothing goes that was cancelled or has expired, and in the end nothing is left.
"""

import asyncio
import json
from typing import Any

from builders import turns
from hypothesis import given, settings
from hypothesis import strategies as st
from push_rig import PushRig

from gateway.clock import NS_PER_MS
from gateway.events import Kind, Outcome, SendClass, SendRecord

CLASSES = [cls.label for cls in SendClass]
KEYS = ["k1", "k2", "k3"]

options = st.fixed_dictionaries(
    {
        "cls": st.sampled_from(CLASSES),
        "ttl": st.sampled_from([None, "1s", "5s"]),
        "ahead": st.sampled_from([None, 2, 6]),
        "key": st.sampled_from([None, None, *KEYS]),
        "to": st.sampled_from(["1", "2", "3", "4"]),
    }
)
which = st.integers(0, 50)
steps = st.one_of(
    st.tuples(st.just("push"), options),
    st.tuples(st.just("push"), options),
    st.tuples(st.just("batch"), st.lists(options, min_size=1, max_size=6)),
    st.tuples(st.just("cancel"), st.lists(which, min_size=1, max_size=3)),
    st.tuples(
        st.just("reclass"), st.lists(st.tuples(which, st.sampled_from(CLASSES)), min_size=1, max_size=3)
    ),
    st.tuples(st.just("cancel batch"), which),
    st.tuples(st.just("reclass batch"), st.tuples(which, st.sampled_from(CLASSES))),
    st.tuples(st.just("send"), st.sampled_from(["taken", "refused", "later", "under way"])),
    st.tuples(st.just("send"), st.just("taken")),
    st.tuples(st.just("tick"), st.integers(0, 3_000)),
    st.tuples(st.just("at once"), st.tuples(options, which, which, st.sampled_from(CLASSES))),
    st.tuples(st.just("restart"), st.none()),
)


class Machine:
    """The rig and the model: what became of each send."""

    def __init__(self) -> None:
        self.rig = PushRig(queue_max=10_000, slots=4, sends_per_s=1e9)
        self.ids: list[str] = []
        self.batches: list[str] = []
        self.states: dict[str, str] = {}
        """Of all accepted: `waiting`, `sent`, `failed` or `cancelled`; what has expired is `waiting` here."""
        self.expires_ms: dict[str, int] = {}
        self.by_key: dict[str, tuple[str, str]] = {}
        """What came first with each key, and the id it was given."""
        self.under_way: list[SendRecord] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.start()

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.rig.queue.refill()), asyncio.create_task(self.watch())]

    async def stop(self) -> None:
        await turns(30)
        for task in self.tasks:
            if task.done():
                await task
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def watch(self) -> None:
        """Look at every turn of the loop."""
        while True:
            assert self.rig.difference() == 0, "the books don't hold"
            assert self.rig.queue.total() == self.rig.books.expected_waiting(Kind.SEND)
            await asyncio.sleep(0)

    # -- steps

    def message(self, wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        headers = {"X-Gateway-Priority": wanted["cls"]}
        own = {"priority": wanted["cls"]}
        if wanted["ttl"]:
            headers["X-Gateway-TTL"] = own["ttl"] = wanted["ttl"]
        if wanted["ahead"]:
            at_s = self.rig.clock.wall_ms() // 1000 + wanted["ahead"]
            headers["X-Gateway-Not-Before"] = own["not_before"] = str(at_s)
        if wanted["key"]:
            headers["Idempotency-Key"] = own["idempotency_key"] = wanted["key"]
        return {"to": wanted["to"], "type": "text", "gateway": own}, headers

    def accepted(self, send_id: str, key: str | None, request: str) -> None:
        first = self.by_key.setdefault(key, (request, send_id)) if key else (request, send_id)
        assert first == (request, send_id), "a key names one request and one send"
        if send_id not in self.states:
            self.ids.append(send_id)
            self.states[send_id] = "waiting"
            self.expires_ms[send_id] = self.rig.store.disk.sends[
                int(send_id.rsplit("-", maxsplit=1)[-1])
            ].expires_ms

    def refused(self, status: int, key: str | None, request: str) -> None:
        assert (status, key is not None) == (409, True)
        assert key is None or self.by_key[key][0] != request

    async def push(self, wanted: dict[str, Any]) -> None:
        message, headers = self.message(wanted)
        message.pop("gateway")
        body = json.dumps(message, separators=(",", ":")).encode()
        request = repr((body, headers))
        answer = await self.rig.pushes.accept(body, headers)
        if answer.status == 202:
            self.accepted(json.loads(answer.body)["messages"][0]["id"], wanted["key"], request)
        else:
            self.refused(answer.status, wanted["key"], request)

    async def batch(self, wanted: list[dict[str, Any]]) -> None:
        made = [self.message(one) for one in wanted]
        raw = json.dumps({"messages": [message for message, _ in made]}, separators=(",", ":")).encode()
        answer = await self.rig.batches.accept(raw, {})
        told = json.loads(answer.body)
        for one, (message, headers), item in zip(wanted, made, told["messages"], strict=True):
            body = json.dumps({**message, "gateway": None}, separators=(",", ":"))
            request = repr((body.replace(',"gateway":null', "").encode(), headers))
            if "id" in item:
                self.accepted(item["id"], one["key"], request)
            else:
                self.refused(item["error"]["status"], one["key"], request)
        if told["batch_id"]:
            self.batches.append(told["batch_id"])

    async def cancel(self, at: int) -> None:
        if not self.ids:
            return
        send_id = self.ids[at % len(self.ids)]
        answer = await self.rig.changes.cancel(send_id)
        if answer.status == 200:
            assert self.states[send_id] in ("waiting", "cancelled")
            self.states[send_id] = "cancelled"
        else:
            assert answer.status == 409
            is_under_way = any(record.id == send_id for record in self.under_way)
            assert is_under_way or self.states[send_id] != "waiting" or self.is_overdue(send_id)

    async def reclass(self, at: int, cls: str) -> None:
        if self.ids:
            send_id = self.ids[at % len(self.ids)]
            answer = await self.rig.changes.reclass(send_id, cls)
            assert answer.status in (200, 409, 429)
            assert answer.status != 200 or json.loads(answer.body)["class"] == cls

    async def send(self, what: str) -> None:
        await turns()
        record = self.rig.next()
        if record is None:
            return
        assert self.states[record.id] == "waiting", "it went, and had ended"
        assert not self.is_overdue(record.id), "it went, and had expired"
        now_ns = self.rig.clock.now_ns()
        if what == "taken":
            await self.rig.answered(record, f"wa-{record.seq}")
            self.states[record.id] = "sent"
        elif what == "refused":
            self.rig.front.refused(record, now_ns)
            await self.rig.settler.settle(record, Outcome.FAILED, reason="HTTP 400")
            self.states[record.id] = "failed"
        elif what == "later":
            self.rig.front.refused(record, now_ns)
            self.rig.queue.defer(record, now_ns + 1_500 * NS_PER_MS)
        else:
            self.under_way.append(record)

    async def restart(self) -> None:
        await self.stop()
        self.rig = PushRig(
            queue_max=10_000, slots=4, sends_per_s=1e9, disk=self.rig.store.disk, clock=self.rig.clock
        )
        self.under_way.clear()
        self.start()

    def is_overdue(self, send_id: str) -> bool:
        return 0 < self.expires_ms[send_id] <= self.rig.clock.wall_ms()

    async def step(self, name: str, what: Any) -> None:
        match name:
            case "push":
                await self.push(what)
            case "batch":
                await self.batch(what)
            case "cancel":
                await asyncio.gather(*map(self.cancel, what))
            case "reclass":
                await asyncio.gather(*(self.reclass(*one) for one in what))
            case "cancel batch" if self.batches:
                batch_id = self.batches[what % len(self.batches)]
                assert (await self.rig.changes.cancel_batch(batch_id)).status == 200
                await self.note_cancelled()
            case "reclass batch" if self.batches:
                batch_id = self.batches[what[0] % len(self.batches)]
                assert (await self.rig.changes.reclass_batch(batch_id, what[1])).status == 200
            case "send":
                await self.send(what)
            case "tick":
                self.rig.clock.advance_ns(what * NS_PER_MS)
                await self.rig.schedule.start_due()
            case "at once":
                wanted, first, second, cls = what
                await asyncio.gather(
                    self.push(wanted), self.cancel(first), self.rig.schedule.start_due(),
                    self.reclass(second, cls), self.send("taken"), self.push(wanted),
                )  # fmt: skip
            case "restart":
                await self.restart()
        await self.check()

    async def note_cancelled(self) -> None:
        for send_id, state in self.states.items():
            if state == "waiting" and await self.rig.state(send_id) == "cancelled":
                self.states[send_id] = "cancelled"

    async def check(self) -> None:
        for task in self.tasks:
            assert not task.done(), task
        for send_id, state in self.states.items():
            told = await self.rig.state(send_id)
            if state == "waiting":
                assert told in ("queued", "scheduled") or (told == "expired" and self.is_overdue(send_id)), (
                    told
                )
            else:
                assert told == state
        assert self.rig.books.accepted[Kind.SEND] == len(self.ids)
        outcomes = {"sent": Outcome.DELIVERED, "failed": Outcome.FAILED, "cancelled": Outcome.CANCELLED}
        for state, outcome in outcomes.items():
            assert self.rig.books.outcomes[Kind.SEND, outcome] == list(self.states.values()).count(state)

    async def finish(self) -> None:
        """Let everything go that still may: then nothing is left."""
        for record in self.under_way:
            await self.rig.answered(record, f"wa-{record.seq}")
            self.states[record.id] = "sent"
        for _ in range(len(self.ids) + 20):
            await self.step("tick", 1_000)
            for _ in range(4):
                await self.send("taken")
        await self.check()
        assert self.rig.queue.total() == 0
        assert self.rig.store.disk.sends == {}
        assert not self.rig.front.held()
        await self.stop()


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40))
def test_every_send_ends_once_and_the_books_hold_at_every_look(played: list[tuple[str, Any]]) -> None:
    async def main() -> None:
        machine = Machine()
        for name, what in played:
            await machine.step(name, what)
        await machine.finish()

    asyncio.run(main())
