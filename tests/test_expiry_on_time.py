"""Sends whose time to live is over end on time though nothing is sent, wherever they wait."""

import asyncio

import pytest
from builders import turns
from push_rig import PushRig
from virtual_time import run_virtual, virtual_loop

from gateway._fast.ring import EVERY_CLASS
from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import Kind, Outcome
from gateway.outbound.expiry import UNDER_WAY_RETRY_MS
from gateway.outbound.queue import NEVER_MS
from gateway.outbound.withdrawals import SLICE


def expired(rig: PushRig) -> int:
    return rig.books.outcomes[Kind.SEND, Outcome.EXPIRED]


@pytest.mark.parametrize(("late_ms", "ends"), [(-1, False), (0, True)])
async def test_it_ends_at_its_millisecond_and_makes_room(late_ms: int, *, ends: bool) -> None:
    rig = PushRig(queue_max=1)
    send_id = await rig.pushed("bulk", X_Gateway_TTL="1s")
    assert (await rig.push()).status == 429
    rig.clock.advance_ns((1_000 + late_ms) * NS_PER_MS)
    await rig.expiry.end_expired()
    assert await rig.state(send_id) == ("expired" if ends else "queued")
    assert (expired(rig), rig.queue.total(), rig.difference()) == (ends, not ends, 0)
    assert (await rig.push()).status == (202 if ends else 429)


async def test_wherever_they_wait_and_no_other() -> None:
    """In hand, in line, on disk behind it, delayed, and for their time; the rest stays, and goes in order."""
    rig = PushRig(queue_max=1000, slots=4, sends_per_s=1e6)
    refilling = asyncio.create_task(rig.queue.refill())
    first = [await rig.pushed(to=f"1{number}", X_Gateway_TTL="1s") for number in range(2)]
    delayed = rig.queue.take()
    assert delayed is not None
    rig.queue.defer(delayed, rig.clock.now_ns() + 10**15)
    assert rig.front.look(EVERY_CLASS, rig.clock.now_ns()).ready
    rest = [
        await rig.pushed(to=f"2{number}", X_Gateway_TTL="1h" if number % 2 else "1s") for number in range(20)
    ]
    now_s = rig.clock.wall_ms() // 1000
    later = await rig.pushed(X_Gateway_TTL="1s", X_Gateway_Not_Before=str(now_s + 1))
    rig.clock.advance_ns(2 * NS_PER_S)
    await rig.expiry.end_expired()
    await turns()
    states = [await rig.state(send_id) for send_id in (*first, later, *rest)]
    assert states == ["expired"] * 3 + ["expired", "queued"] * 10
    assert (expired(rig), rig.queue.total(), rig.difference()) == (13, 10, 0)
    gone = []
    while rig.queue.total():
        if (record := rig.next()) is not None:
            gone.append(record.id)
            await rig.answered(record, f"wa-{record.seq}")
        await turns()
    assert gone == rest[1::2]
    refilling.cancel()


async def test_more_than_one_look_holds_end_all_the_same() -> None:
    rig = PushRig(queue_max=2 * SLICE, sends_per_s=1e6)
    for number in range(SLICE + 3):
        await rig.pushed("bulk", to=f"1{number}", X_Gateway_TTL="1s")
    last = await rig.pushed("bulk", X_Gateway_TTL="2s")
    rig.clock.advance_ns(NS_PER_S)
    await rig.expiry.end_expired()
    assert (expired(rig), rig.queue.total(), rig.difference()) == (SLICE + 3, 1, 0)
    assert await rig.state(last) == "queued"
    assert rig.queue.expires_first_ms == rig.clock.wall_ms() + 1_000


async def test_one_that_is_under_way_is_left_and_looked_at_again() -> None:
    rig = PushRig()
    send_id = await rig.pushed(X_Gateway_TTL="1s")
    record = rig.next()
    assert record is not None
    rig.clock.advance_ns(NS_PER_S)
    await rig.expiry.end_expired()
    assert (expired(rig), rig.queue.taken()) == (0, 1)
    assert rig.queue.expires_first_ms == rig.clock.wall_ms() + UNDER_WAY_RETRY_MS
    rig.front.refused(record, rig.clock.now_ns())
    rig.queue.defer(record, rig.clock.now_ns() + 10**12)
    await rig.expiry.end_expired()
    assert await rig.state(send_id) == "expired"
    assert rig.queue.expires_first_ms == NEVER_MS


def test_the_task_sleeps_until_something_expires() -> None:
    """A look at the disk at the start, and one for each end; none for what comes later than what is there."""

    async def main() -> None:
        loop = virtual_loop()
        rig = PushRig(queue_max=100, clock=loop)  # type: ignore[arg-type]
        looks: list[int] = []
        read_expiring = rig.store.read_expiring

        async def counted(limit: int) -> object:
            looks.append(loop.wall_ms() - began_ms)
            return await read_expiring(limit)

        rig.store.read_expiring = counted  # type: ignore[method-assign, assignment]
        began_ms = loop.wall_ms()
        working = asyncio.create_task(rig.expiry.work())
        await asyncio.sleep(100)
        assert looks == [0]
        ids = [await rig.pushed("bulk", X_Gateway_TTL=ttl) for ttl in ("30s", "50s", "10s")]
        for number in range(5):
            await rig.pushed("bulk", to=f"1{number}", X_Gateway_TTL="1h")
        await asyncio.sleep(60)
        assert looks == [0, 110_000, 130_000, 150_000]
        at_s = str(loop.wall_ms() // 1000 + 10)
        ids.append(await rig.pushed("bulk", X_Gateway_TTL="10s", X_Gateway_Not_Before=at_s))
        await asyncio.sleep(60)
        assert looks == [0, 110_000, 130_000, 150_000, 180_000]
        assert [await rig.state(send_id) for send_id in ids] == ["expired"] * 4
        working.cancel()

    run_virtual(main())
