"""Retries hold half of the places and no more, whoever they are; the other half is for what was never tried."""

import asyncio
import random

from builders import AskedSingles, MemoryStore, inbound, inbound_backlog
from destination_side import OK, WORK_S, Side, records, well
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run_virtual, virtual_loop

from gateway._fast.breaker import Breaker
from gateway._fast.limit import START, ConcurrencyLimit, Passage
from gateway._fast.waits import LeastWait
from gateway.clock import NS_PER_MS, NS_PER_S, FakeClock
from gateway.events import InboundRecord
from gateway.inbound.destination import BackendAnswer
from gateway.inbound.gate import Gate
from gateway.inbound.limit import Sign
from gateway.inbound.picks import NOTHING, Pick, Singles


def test_a_flood_of_slow_retries_does_not_delay_what_is_fresh() -> None:
    """Two hundred that take ten seconds and fail, again and again, hold half of the places and no more."""
    poison = {b"%d" % seq for seq in range(1, 201)}
    waits_ns: list[int] = []

    async def main() -> None:
        async def answer(body: bytes) -> BackendAnswer:
            if body in poison:
                await asyncio.sleep(10)
                return BackendAnswer(500)
            return await well(body)

        side = Side(answer, highest=START)
        loop = virtual_loop()
        await side.accept(records(200), has_failed=True)
        for seq in range(201, 801):
            pushed_ns = loop.now_ns()
            await side.accept(records(1, seq))
            await asyncio.sleep(0.1)
            waits_ns.append(side.backend.arrived_ns[b"%d" % seq] - pushed_ns)
        tried = {body for body in poison if body in side.backend.headers}
        assert len(tried) >= 2 * 60 // 10  # half of the four places, for a minute
        poison.clear()
        side.forwarder.drain()
        await side.stop()

    run_virtual(main())
    assert max(waits_ns) <= WORK_S * NS_PER_S + NS_PER_MS


def test_what_is_fresh_does_not_starve_retries() -> None:
    """Fresh ones always wait, and still half of the places are the retries'."""

    async def main() -> None:
        side = Side(well, highest=START)
        await side.accept(records(50), has_failed=True)
        await side.accept(records(2_000, 51))
        while not all(b"%d" % seq in side.backend.arrived_ns for seq in range(1, 51)):
            await asyncio.sleep(0.01)
        fresh = len(side.backend.arrived_ns) - 50
        assert 40 <= fresh <= 60
        await side.stop()

    run_virtual(main())


class Watch:
    """Stands before the picks and the gate of one side, and counts what must not be."""

    def __init__(self, side: Side) -> None:
        self.idle_rounds = 0
        """Times that a worker was told that there is something, and was given nothing."""
        self.retries = 0
        self.retries_beyond_half = 0
        self._picks, self._gate = side.picks, side.gate
        self._take, self._enter = Singles.take, Gate.enter
        self._succeed, self._fail = Gate.succeed, Gate.fail
        side.picks.take = self.take  # type: ignore[method-assign]
        side.gate.enter = self.enter  # type: ignore[method-assign]
        side.gate.succeed = self.succeed  # type: ignore[method-assign]
        side.gate.fail = self.fail  # type: ignore[method-assign]

    def take(self) -> Pick:
        pick = self._take(self._picks)
        self.idle_rounds += pick is NOTHING
        return pick

    def enter(self, now_ns: int, *, is_retry: bool) -> Passage:
        half = max(1, self._gate.limit.limit // 2)
        self.retries_beyond_half += is_retry and self.retries >= half
        self.retries += is_retry
        return self._enter(self._gate, now_ns, is_retry=is_retry)

    def succeed(self, passage: Passage, now_ns: int) -> bool:
        self.retries -= passage.is_retry
        return self._succeed(self._gate, passage, now_ns)

    def fail(
        self, passage: Passage, now_ns: int, sign: int, retry_after_ms: int, *, shows_trouble: bool
    ) -> bool:
        self.retries -= passage.is_retry
        return self._fail(self._gate, passage, now_ns, sign, retry_after_ms, shows_trouble=shows_trouble)


@given(seed=st.integers(0, 2**32), picks=st.sampled_from([Singles, AskedSingles]))
@settings(max_examples=40, deadline=None)
def test_with_contacts_that_hang_the_others_go_on_and_no_worker_goes_round_in_vain(
    seed: int, picks: type[Singles]
) -> None:
    """What waits behind a failing one is in memory and fresh, and still nobody can have it."""
    rng = random.Random(seed)
    fine_waits_ns: list[int] = []

    async def main() -> None:
        hangs = True

        async def answer(body: bytes) -> BackendAnswer:
            if hangs and body.startswith(b"hangs"):
                await asyncio.sleep(rng.choice([1, 10]))
                return BackendAnswer(500)
            return await well(body)

        side = Side(answer, highest=rng.choice([2, START, 16]), has_lanes=True, picks=picks)
        watch = Watch(side)  # sees nothing of what nobody is asked for
        contacts = [f"hangs {number}" for number in range(rng.randint(1, 30))]
        seq = 0

        def of(contact: str) -> list[InboundRecord]:
            nonlocal seq
            seq += 1
            return [inbound(seq, lane=contact, body=b"%s %d" % (contact.encode(), seq))]

        await side.accept([record for contact in contacts for record in of(contact)], has_failed=True)
        behind = 0
        for at in range(200):
            for _ in range(rng.randint(0, 2)):
                await side.accept(of(rng.choice(contacts)))
                behind += 1
            fine = of(f"fine {at}")
            pushed_ns = virtual_loop().now_ns()
            await side.accept(fine)
            await asyncio.sleep(0.1)
            fine_waits_ns.append(side.backend.arrived_ns[fine[0].body] - pushed_ns)
        assert watch.retries_beyond_half == 0
        assert watch.idle_rounds <= behind, "each has found at least one that waits behind another"
        hangs = False
        await side.empty()
        assert len(side.backend.arrived_ns) == seq
        await side.stop()

    run_virtual(main())
    assert max(fine_waits_ns) <= WORK_S * NS_PER_S + NS_PER_MS


async def test_nothing_is_promised_while_retries_hold_their_places_and_all_else_may_not_go() -> None:
    """A class that is closed has records in memory, and so has one where all wait behind a retry."""
    for aside_max, contact_of_second in ((1, "b"), (64, "a")):
        clock = FakeClock()
        queue = inbound_backlog(MemoryStore(clock), clock, aside_max=aside_max, has_lanes=True)
        gate = Gate(Breaker(500, 5_000, random.Random(1)), ConcurrencyLimit(2), clock)
        picks = Singles(queue, gate, LeastWait(), clock)
        queue.push(inbound(1, lane="a"))
        first = queue.take()
        assert first is not None
        queue.defer(first, clock.now_ns())
        queue.push(inbound(2, lane=contact_of_second))
        passage = gate.enter(clock.now_ns(), is_retry=True)
        assert not gate.has_room_for_retry
        assert not picks.has_next()
        assert picks.take() is NOTHING
        gate.succeed(passage, clock.now_ns())
        assert picks.has_next()
        assert [parcel.records for parcel in picks.take().parcels] == [[first]]


def test_a_retry_that_is_due_goes_when_a_success_makes_room_for_it() -> None:
    async def main() -> None:
        began: dict[int, int] = {}
        loop = virtual_loop()
        started_ns = loop.now_ns()

        async def answer(body: bytes) -> BackendAnswer:
            began[int(body)] = (loop.now_ns() - started_ns) // NS_PER_S
            await asyncio.sleep(30 if int(body) <= 3 else 1)
            return OK

        side = Side(answer)
        # A success while all four places are in use raises it to five; one more to six, and three of those are for retries.
        passages = [side.gate.enter(started_ns, is_retry=False) for _ in range(START)]
        for passage in passages:
            side.gate.limit.leave(passage, started_ns, Sign.WELL if passage is passages[0] else Sign.NEITHER)
        assert side.gate.limit.limit == 5
        await side.accept(records(3), has_failed=True)
        await asyncio.sleep(0)
        await side.accept(records(3, first=4))
        await asyncio.sleep(10)
        assert sorted(began) == [1, 2, 3, 4, 5, 6]
        assert began[3] == 1
        await side.stop()

    run_virtual(main())
