"""The backend is given what it stands, messages first: forwarders beside a backend in virtual time."""

import asyncio

from builders import inbound
from destination_side import OK, WORK_S, Answer, Side, dead, records, well
from virtual_time import run_virtual, virtual_loop

from gateway._fast.limit import START
from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import InboundClass, InboundRecord, Kind
from gateway.inbound.destination import BackendAnswer
from gateway.inbound.rate import BackendRate


def receipts(count: int) -> list[InboundRecord]:
    return [
        inbound(seq, cls=InboundClass.RECEIPT, kinds=[Kind.READ], body=b"r%d" % seq)
        for seq in range(1, count + 1)
    ]


def most_in_a_second(came_ns: list[int]) -> int:
    return max(sum(at_ns <= later < at_ns + NS_PER_S for later in came_ns) for at_ns in came_ns)


# -- concurrency


def test_the_limit_settles_near_what_a_backend_does_at_once() -> None:
    at_once = 8

    async def main() -> None:
        limits: list[int] = []

        async def shared(_body: bytes) -> BackendAnswer:
            await asyncio.sleep(WORK_S * max(1.0, side.backend.under_way / at_once))
            limits.append(side.gate.limit.limit)
            return OK

        side = Side(shared)
        await side.accept(records(6_000))
        await side.empty()
        await side.stop()
        settled = limits[1_000:]
        assert at_once * 0.9 < sum(settled) / len(settled) < at_once * 2
        assert side.backend.under_way_max <= at_once * 5, (
            "the doubling at the start goes too far, but not to the bound"
        )

    run_virtual(main())


def test_a_backend_that_keeps_up_is_given_all_that_may_be() -> None:
    async def main() -> None:
        side = Side(well, highest=16)
        await side.accept(records(1_000))
        await side.empty()
        await side.stop()
        assert side.gate.limit.limit == 16
        assert side.backend.under_way_max == 16

    run_virtual(main())


def test_a_backend_that_refuses_more_than_it_can_do_is_given_less() -> None:
    async def main() -> None:
        async def refusing(_body: bytes) -> BackendAnswer:
            if side.backend.under_way > 6:
                return BackendAnswer(503)
            await asyncio.sleep(WORK_S)
            return OK

        side = Side(refusing)
        await side.accept(records(2_000))
        await side.empty()
        await side.stop()
        assert side.backend.under_way_max == 7
        refused = len(side.backend.came_ns) - 2_000
        assert 0 < refused < 200
        assert 3 <= side.gate.limit.limit <= 7

    run_virtual(main())


def test_a_dry_run_of_the_limit_gives_all_places_at_once() -> None:
    async def main() -> None:
        side = Side(well, highest=20, is_dry_run=True)
        await side.accept(records(20))
        await side.empty()
        await side.stop()
        assert side.backend.under_way_max == 20
        assert side.gate.would_have == 20 - START

    run_virtual(main())


# -- one destination and the other


async def message_arrivals(event_answer: Answer | None) -> dict[bytes, int]:
    """When 300 messages, 20 a second, arrive beside receipts for an event webhook."""
    messages = Side(well, highest=12)
    events = None if event_answer is None else Side(event_answer, highest=4)
    if events is not None:
        await events.accept(receipts(500))
    for seq in range(1, 301):
        await messages.accept(records(1, seq))
        await asyncio.sleep(0.05)
    await messages.empty()
    assert messages.gate.limit.lowered == 0
    assert messages.gate.breaker.opened == 0
    if events is not None and event_answer is dead:
        assert events.gate.breaker.opened == 1
        assert events.backend.arrived_ns == {}
    await messages.stop()
    if events is not None:
        await events.stop()
    return messages.backend.arrived_ns


def test_a_dead_or_slow_event_webhook_changes_nothing_for_messages() -> None:
    """To the nanosecond."""

    async def slow(_body: bytes) -> BackendAnswer:
        await asyncio.sleep(9)
        return OK

    alone = run_virtual(message_arrivals(None))
    assert len(alone) == 300
    assert run_virtual(message_arrivals(dead)) == alone
    assert run_virtual(message_arrivals(slow)) == alone


# -- the rate


def test_the_rate_is_kept_in_every_second_and_used() -> None:
    async def main() -> None:
        loop = virtual_loop()
        rate = BackendRate(40, loop.now_ns())
        messages = Side(well, rate=rate)
        events = Side(well, highest=4, rate=rate, yields_to=messages.forwarder.needs_token)
        started_ns = loop.now_ns()
        await messages.accept(records(200))
        await events.accept(receipts(200))
        await messages.empty()
        await events.empty()
        took_s = (loop.now_ns() - started_ns) / NS_PER_S
        came_ns = sorted(messages.backend.came_ns + events.backend.came_ns)
        assert len(came_ns) == 400
        assert most_in_a_second(came_ns) == 40
        assert took_s <= 400 / 40 / 0.99 + 1
        # No event goes while a message waits.
        assert max(messages.backend.came_ns) < min(events.backend.came_ns)
        await messages.stop()
        await events.stop()

    run_virtual(main())


def test_a_dead_message_webhook_leaves_the_rate_to_events() -> None:
    async def main() -> None:
        loop = virtual_loop()
        rate = BackendRate(20, loop.now_ns())
        messages = Side(dead, rate=rate)
        events = Side(well, highest=4, rate=rate, yields_to=messages.forwarder.needs_token)
        await messages.accept(records(50))
        await events.accept(receipts(200))
        await events.empty()
        assert messages.backend.arrived_ns == {}
        assert events.gate.limit.lowered == 0
        assert most_in_a_second(sorted(messages.backend.came_ns + events.backend.came_ns)) <= 20
        await events.stop()
        await messages.stop()

    run_virtual(main())


def test_waiting_for_the_rate_is_one_timer_and_idling_is_none() -> None:
    async def main() -> None:
        loop = virtual_loop()
        rate = BackendRate(1, loop.now_ns())

        async def at_once(_body: bytes) -> BackendAnswer:
            return OK

        side = Side(at_once, rate=rate)
        before = loop.virtual.jumps
        await side.accept(records(10))
        emptied = asyncio.Event()

        def look() -> None:
            if not side.queue.total():
                emptied.set()

        side.store.on_committed = look
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert side.gate.is_held_by_rate(loop.now_ns())
        await emptied.wait()
        assert loop.virtual.jumps - before <= 2 * 10
        await asyncio.sleep(2)  # the token after the last: those who still wait for it go to wait for records
        before = loop.virtual.jumps
        await asyncio.sleep(3_600)
        assert loop.virtual.jumps == before + 1
        await side.stop()

    run_virtual(main())


# -- what travels with it


def test_each_attempt_says_how_old_its_record_is_and_which_it_is() -> None:
    async def main() -> None:
        failing = [BackendAnswer(500), BackendAnswer(500), BackendAnswer(429), BackendAnswer(500)]

        async def answer(_body: bytes) -> BackendAnswer:
            await asyncio.sleep(1)
            return failing.pop(0) if failing else OK

        side = Side(answer)
        received_ms = virtual_loop().wall_ms()
        await side.accept(records(1))
        await side.empty()
        await side.stop()
        said = side.backend.headers[b"1"]
        # Neither the 429 counts, nor the probe after it.
        assert [headers["X-Gateway-Attempt"] for headers in said] == ["1", "2", "3", "3", "3"]
        came_ms = [ns // NS_PER_MS - side.backend.came_ns[0] // NS_PER_MS for ns in side.backend.came_ns]
        assert [int(headers["X-Gateway-Age"]) for headers in said] == came_ms
        assert len({headers["X-Gateway-Received"] for headers in said}) == 1
        assert said[0]["X-Gateway-Received"] == "2023-11-14T22:13:20.000Z"
        assert received_ms == 1_700_000_000_000

    run_virtual(main())


# -- one contact alone


def test_a_dead_backend_spends_no_message_though_only_one_contact_writes() -> None:
    """Of one contact one message at a time is tried: its failures are the backend's, and cost it few attempts."""

    async def main() -> None:
        async def broken(_body: bytes) -> BackendAnswer:
            await asyncio.sleep(WORK_S)
            return BackendAnswer(503)

        side = Side(broken, highest=8)
        (alone,) = records(1)
        await side.accept([alone])
        await asyncio.sleep(3_600)
        assert side.gate.breaker.state != "closed"
        assert 1 < alone.attempts < 15
        await side.stop()

    run_virtual(main())
