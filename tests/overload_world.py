"""The inbound side as it is built for real, on a store in memory and in virtual time, between a node and a backend."""

import asyncio
import json
import random
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec
from overload_life import Life, RecordingDisk
from overload_plan import LENGTH_S, STORE_MAX_BYTES, Plan, Trouble, Webhook, latest
from overload_story import Attempt, Key, Post, Story, read_body
from virtual_time import run_virtual, virtual_loop

from gateway.clock import NS_PER_S
from gateway.inbound.destination import Backend, BackendAnswer, Route
from gateway.overload.ladder import ReceiptClass, Treatment
from gateway.store.protocol import Change

SETTLE_S: Final = 900.0
"""In which all that is left must be worked off once the troubles are over."""
REST_S: Final = 60.0
"""After which nothing must be left to do."""
TIMEOUT_S: Final = 1.0


class Destination:
    """One of the backend's webhooks, and its troubles."""

    route: Route | None = None

    def __init__(self, name: str, trouble: Trouble, world: "World") -> None:
        self._name = name
        self._trouble = trouble
        self._world = world
        self._rng = random.Random(f"{world.plan.seed}/{name}")
        self._under_way = 0

    def post_soon(
        self, body: bytes, _headers: bytes, done: Callable[[BackendAnswer], None]
    ) -> asyncio.Task[None]:
        # Noted at once, not when a task has its first turn: the ladder may have climbed by then.
        keys, digests = read_body(json.loads(body))
        status = self._status(keys, is_digest=bool(digests))
        post = Post(self._name, virtual_loop().now_ns(), keys, digests, status, self._world.treatments())
        self._world.story.posts.append(post)
        self._under_way += 1

        async def answer() -> None:
            try:
                await asyncio.sleep(TIMEOUT_S if status is None else self._trouble.latency_s)
            finally:
                self._under_way -= 1
            post.ended_ns = virtual_loop().now_ns()
            retry_after = "1" if status == 429 and self._rng.random() < 0.5 else None
            done(BackendAnswer(status, retry_after=retry_after))

        return asyncio.get_running_loop().create_task(answer())

    def _status(self, keys: list[Key], *, is_digest: bool) -> int | None:
        trouble, rng, now_s = self._trouble, self._rng, self._world.now_s()
        is_poisoned = any(zlib.crc32(repr(key).encode()) % 1000 < trouble.poison_share * 1000 for key in keys)
        if is_poisoned and trouble.poison_status == 400:
            return 400
        if self._world.is_healed:
            return 200
        if any(begin_s <= now_s < end_s for begin_s, end_s in trouble.down_s):
            return None
        if self._under_way >= trouble.places:
            return 503
        if is_poisoned:
            return trouble.poison_status
        if rng.random() < trouble.error_share:
            return rng.choice(trouble.errors)
        if is_digest:
            return trouble.digest_status
        return trouble.batch_status if len(keys) > trouble.batch_max else 200


class World:
    """Plays a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.story = Story()
        self.disk = RecordingDisk(self.story)
        self.is_healed = False
        self._began_ns = virtual_loop().now_ns()
        self._rng = random.Random(f"{plan.seed}/world")
        self.message_backend: Backend = Destination("message", plan.messages, self)
        self.event_backend: Backend = Destination("event", plan.events, self)
        self._life = self._born(0)

    def _born(self, number: int) -> Life:
        return Life(self.plan, self.story, self.disk, number, self)

    def now_s(self) -> float:
        return (virtual_loop().now_ns() - self._began_ns) / NS_PER_S

    def commit_s(self) -> float:
        """How long a commit takes now."""
        return 0.0 if self.is_healed else latest(self.plan.commit_s, self.now_s(), 0.0)

    def used_bytes(self) -> int:
        share = 0.1 if self.is_healed else self.plan.disk_share(self.now_s())
        return int(share * STORE_MAX_BYTES)

    def treatments(self) -> dict[str, Treatment]:
        ladder = self._life.parts.gatekeeper.ladder
        return {cls.label: ladder.treatment(cls) for cls in ReceiptClass}

    async def play(self) -> Story:
        """Everything, to the end."""
        await self._want_masks()
        actors = [asyncio.create_task(self._offer(webhook)) for webhook in self.plan.webhooks]
        side = [asyncio.create_task(self._restart()), asyncio.create_task(self._stall())]
        side.append(asyncio.create_task(self._check_points()))
        await asyncio.sleep(LENGTH_S)
        await asyncio.wait(side[:2])
        self.is_healed = True
        deadline_s = self.now_s() + SETTLE_S
        while not (all(actor.done() for actor in actors) and not self._life.waiting()):
            if self.now_s() > deadline_s:
                self.story.problems.append(f"{self._life.waiting()} records wait for ever")
                break
            await asyncio.sleep(0.1)
        for actor in (*actors, *side):
            actor.cancel()
        for ended in await asyncio.gather(*actors, *side, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        await self._rest()
        await self._end()
        return self.story

    async def _want_masks(self) -> None:
        book = self._life.parts.receipts
        items = [book.want(message_id, mask) for message_id, mask in self.plan.masks.items()]
        await self._life.store.submit(Change(ledger_items=b"".join(items)))

    async def _offer(self, webhook: Webhook) -> None:
        await asyncio.sleep(webhook.at_s)
        while True:
            attempt = Attempt(webhook, virtual_loop().now_ns())
            self.story.attempts.append(attempt)
            attempt.status = await self._life.receive(webhook.body)
            attempt.ended_ns = virtual_loop().now_ns()
            if attempt.status == 200:
                return
            await asyncio.sleep(self._rng.uniform(0.3, 3.0))

    async def _restart(self) -> None:
        for number, restart in enumerate(self.plan.restarts, start=1):
            await asyncio.sleep(max(0.0, restart.at_s - self.now_s()))
            await self._life.end(restart)
            await asyncio.sleep(restart.away_s)
            for seq, record in self.disk.inbound.items():  # a record read back knows nothing of its attempts
                self.disk.inbound[seq] = msgspec.structs.replace(record, attempts=0, goes_alone=False)
            self._life = self._born(number)

    async def _stall(self) -> None:
        for at_s, length_s in self.plan.stalls:
            await asyncio.sleep(max(0.0, at_s - self.now_s()))
            virtual_loop().virtual.now_ns += int(length_s * NS_PER_S)

    async def _check_points(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(1.0, 5.0))
            if self._life.is_open:
                change = self._life.parts.receipts.checkpoint()
                if change is not None:
                    self._life.store.submit(change)

    async def _rest(self) -> None:
        """With nothing to do, nothing is done."""
        await asyncio.sleep(REST_S)
        ladder = self._life.parts.gatekeeper.ladder
        if not ladder.is_at_rest:
            self.story.problems.append(f"the ladder stays on {ladder.rung.label}")
        before = virtual_loop().virtual.jumps
        await asyncio.sleep(3_600)
        jumps = virtual_loop().virtual.jumps - before
        if jumps > 1:
            self.story.problems.append(f"{jumps - 1} wake-ups in an hour with nothing to do")

    async def _end(self) -> None:
        ids = {item.message_id for webhook in self.plan.webhooks for item in webhook.items}
        wall_ms = virtual_loop().wall_ms()
        book = self._life.parts.receipts
        self.story.ledger = {message_id: book.look(message_id, wall_ms) for message_id in ids}
        self.story.evicted = book.ledger.evicted
        await self._life.drain()
        self._life.count()
        again = self._born(len(self.plan.restarts) + 1)
        found = again.parts.receipts
        self.story.recovered_ledger = {message_id: found.look(message_id, wall_ms) for message_id in ids}
        await again.drain()
        self.story.books = Counter(
            {
                (kind, None if outcome is None else outcome.label): count
                for (kind, outcome), count in self.disk.books.items()
            }
        )
        self.story.ended_ns = virtual_loop().now_ns()


def play(plan: Plan) -> Story:
    """Play a plan on a virtual loop of its own."""

    async def main() -> Story:
        return await World(plan).play()

    return run_virtual(main())
