"""The hot front's own behaviour: order, limits and times, on wires in memory and in simulated time."""

import asyncio
import hashlib
import hmac
import zlib
from collections.abc import Awaitable, Callable

import pytest
from front_rig import BODY_MAX, HEAD, Listener, Wire, answers_in, listening, settle, webhook
from virtual_time import run_virtual, virtual_loop

from gateway._fast.front_connection import HEAD_TIMEOUT_S, IDLE_S, UNREAD_MAX_BYTES, UNREAD_S, Connection
from gateway.http import bodies
from gateway.http.bodies import BODY_TIMEOUT_S
from gateway.http.front_handoff import HandedOff
from gateway.http.front_table import SWEEP_S

QUERY = b"GET /v1/messages/abc HTTP/1.1\r\nHost: gw\r\n\r\n"
PUSH = b"POST /v1/messages HTTP/1.1\r\nHost: gw\r\nContent-Length: 2\r\n\r\n{}"


def statuses(wire: Wire) -> list[int]:
    return [answer.status for answer in answers_in(wire.written)]


def virtual(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a test in simulated time."""

    def run() -> None:
        async def main() -> None:
            await test()

        run_virtual(main())

    run.__doc__ = test.__doc__
    return run


def released(listener: Listener) -> None:
    """Answer what is held, the last first: commits may end in any order."""
    held, listener.inside.held = listener.inside.held, []
    for answer in reversed(held):
        answer()


@virtual
async def test_takes_one_request_of_a_connection_at_a_time() -> None:
    """So answers can't overtake each other, whatever the order of commits."""
    async with listening() as listener:
        listener.inside.holds = True
        one, other = listener.hot(), listener.hot()
        one.feed(webhook(b"1") + webhook(b"bad 2") + webhook(b"3"))
        other.feed(webhook(b"4"))
        one.feed(webhook(b"full 5"))
        await settle()
        assert [body for _, body in listener.inside.taken] == [b"1", b"4"]
        assert not one.is_reading_now
        while listener.inside.held:
            released(listener)
            await settle()
        assert [body for _, body in listener.inside.taken] == [b"1", b"4", b"bad 2", b"3", b"full 5"]
        assert statuses(one) == [200, 400, 200, 503]
        assert statuses(other) == [200]
        assert one.is_reading_now


@virtual
async def test_hands_off_only_when_its_own_answers_are_out() -> None:
    async with listening() as listener:
        listener.inside.holds = True
        wire = listener.hot()
        wire.feed(webhook(b"1") + QUERY + webhook(b"2"))
        await settle()
        assert isinstance(wire.protocol, Connection)
        released(listener)
        await settle()
        assert isinstance(wire.protocol, HandedOff)
        assert statuses(wire) == [200, 404]
        released(listener)
        await settle()
        assert statuses(wire) == [200, 404, 200]
        assert [body for _, body in listener.inside.taken] == [b"1", b"2"]


@virtual
async def test_holds_no_more_than_what_came_before_it_stopped_reading() -> None:
    async with listening() as listener:
        listener.inside.holds = True
        wire = listener.hot()
        wire.feed(webhook(b"1"))
        for _ in range(100):
            wire.feed(b"x" * 1000)
        assert wire.unread == 99


@virtual
async def test_does_not_read_from_who_does_not_read_answers() -> None:
    async with listening() as listener:
        wire = listener.hot()
        wire.reads_answers = False
        for _ in range(2000):
            wire.feed(webhook(b"x") * 2)
        await settle()
        assert len(wire.written) <= UNREAD_MAX_BYTES + 200
        taken = len(listener.inside.taken)
        assert taken == len(answers_in(wire.written))
        assert wire.unread > 1000
        wire.read_answers()
        await settle()
        assert len(listener.inside.taken) == len(answers_in(wire.written)) == 4000


@virtual
async def test_aborts_who_reads_no_answer_for_long() -> None:
    async with listening() as listener:
        hot, handed = listener.hot(), listener.hot()
        for wire in (hot, handed):
            wire.reads_answers = False
        hot.feed(webhook(b"x"))
        handed.feed(QUERY)
        await asyncio.sleep(SWEEP_S - 1)
        assert not hot.is_closed
        assert not handed.is_closed
        await asyncio.sleep(UNREAD_S + SWEEP_S)
        assert hot.was_aborted
        assert handed.was_aborted
        assert len(listener.ingest.connections) == 0


@virtual
async def test_a_handed_off_reader_that_goes_on_is_not_aborted() -> None:
    async with listening() as listener:
        wire = listener.hot()
        for _ in range(10):
            wire.reads_answers = False
            wire.feed(QUERY)
            await asyncio.sleep(SWEEP_S)
            wire.read_answers()
        assert not wire.is_closed
        assert statuses(wire) == [404] * 10


@pytest.mark.parametrize(
    ("start", "limit_s", "reason"),
    [
        (webhook(b"x") + HEAD, HEAD_TIMEOUT_S, "head_slow"),
        (b"P", HEAD_TIMEOUT_S, "head_slow"),
        (webhook(b"12345")[:-1], BODY_TIMEOUT_S, "body_slow"),
        (webhook(b"12345")[:-5], BODY_TIMEOUT_S, "body_slow"),
    ],
)
def test_answers_408_when_a_request_takes_too_long(start: bytes, limit_s: float, reason: str) -> None:
    async def main() -> None:
        async with listening() as listener:
            wire = listener.hot()
            wire.feed(start)
            await asyncio.sleep(limit_s - 0.1)
            assert not wire.is_closed
            await asyncio.sleep(SWEEP_S + 0.1)
            assert wire.is_closed
            assert statuses(wire)[-1] == 408
            assert answers_in(wire.written)[-1].connection == "close"
            assert listener.ingest.refused == {reason: 1}
            assert listener.ingest.reading_bytes == 0

    run_virtual(main())


@virtual
async def test_a_slow_head_is_not_given_more_time_by_more_bytes() -> None:
    async with listening() as listener:
        wire = listener.hot()
        wire.feed(b"POST /webhook HTTP/1.1\r\nHost: gw\r\n")
        for _ in range(int(HEAD_TIMEOUT_S + SWEEP_S)):
            wire.feed(b"X: y\r\n")
            await asyncio.sleep(1)
        assert wire.is_closed
        assert listener.ingest.refused == {"head_slow": 1}


@virtual
async def test_a_slow_body_is_not_given_more_time_by_more_bytes() -> None:
    async with listening() as listener:
        wire = listener.hot()
        wire.feed(webhook(b"x" * 100)[:-100])
        for _ in range(int(BODY_TIMEOUT_S + SWEEP_S)):
            wire.feed(b"x")
            await asyncio.sleep(1)
        assert wire.is_closed
        assert not listener.inside.taken


@virtual
async def test_aiohttp_closes_a_slow_head_that_was_handed_off() -> None:
    async with listening() as listener:
        wire = listener.hot()
        wire.feed(b"GET /v1/messages/abc HTTP/1.1\r\n")
        for _ in range(int(IDLE_S + 1)):
            wire.feed(b"X: y\r\n")
            await asyncio.sleep(1)
        assert wire.is_closed
        assert len(listener.ingest.connections) == 0


@virtual
async def test_closes_idle_connections() -> None:
    async with listening() as listener:
        fresh, used, handed = listener.hot(), listener.hot(), listener.hot()
        used.feed(webhook(b"1"))
        handed.feed(QUERY)
        await asyncio.sleep(IDLE_S - 1)
        assert not fresh.is_closed
        used.feed(webhook(b"2"))
        await asyncio.sleep(SWEEP_S + 1)
        assert fresh.is_closed
        assert handed.is_closed
        assert not used.is_closed
        await asyncio.sleep(IDLE_S + SWEEP_S)
        assert used.is_closed
        assert statuses(used) == [200, 200]


@virtual
async def test_waits_for_the_disk_as_long_as_it_takes() -> None:
    async with listening() as listener:
        listener.inside.holds = True
        wire = listener.hot()
        wire.feed(webhook(b"1"))
        await asyncio.sleep(10 * IDLE_S)
        released(listener)
        await settle()
        assert statuses(wire) == [200]
        assert not wire.is_closed


@virtual
async def test_wakes_at_each_sweep_and_only_while_there_are_connections() -> None:
    async with listening() as listener:
        wire = listener.hot()
        before = virtual_loop().virtual.jumps
        await asyncio.sleep(4 * SWEEP_S - 1)
        assert virtual_loop().virtual.jumps - before == 3 + 1
        wire.hang_up()
        await asyncio.sleep(SWEEP_S)
        before = virtual_loop().virtual.jumps
        await asyncio.sleep(1000)
        assert virtual_loop().virtual.jumps - before == 1


@virtual
async def test_a_request_sets_no_timer_and_makes_no_task() -> None:
    async with listening() as listener:
        wire = listener.hot()
        tasks = len(asyncio.all_tasks())
        before = virtual_loop().virtual.jumps
        for _ in range(100):
            wire.feed(webhook(b"x"))
            assert len(asyncio.all_tasks()) == tasks
        await asyncio.sleep(SWEEP_S - 1)
        assert virtual_loop().virtual.jumps - before == 1
        assert statuses(wire) == [200] * 100


@virtual
async def test_makes_room_by_closing_the_longest_idle() -> None:
    async with listening(connections_max=3) as listener:
        listener.inside.holds = True
        waits, oldest, younger = listener.hot(), listener.hot(), listener.hot()
        waits.feed(webhook(b"1"))
        await asyncio.sleep(1)
        listener.inside.holds = False
        younger.feed(webhook(b"2"))
        fourth = listener.hot()
        assert oldest.is_closed
        assert not any(wire.is_closed for wire in (waits, younger, fourth))
        assert len(listener.ingest.connections) == 3
        assert listener.ingest.connections.evicted == 1


@virtual
async def test_refuses_a_connection_when_none_is_idle() -> None:
    async with listening(connections_max=3) as listener:
        busy = [listener.hot() for _ in range(3)]
        busy[0].feed(b"POST /web")
        busy[1].feed(webhook(b"12345")[:-1])
        busy[2].feed(PUSH[:-1])  # aiohttp works on it, and waits for its last byte
        await settle()
        refused = listener.hot()
        await settle()
        [answer] = answers_in(refused.written)
        assert (answer.status, answer.retry_after, answer.connection) == (503, "1", "close")
        assert refused.is_closed
        assert listener.ingest.refused == {"connections": 1}
        busy[2].hang_up()
        assert not listener.hot().is_closed


@virtual
async def test_makes_room_by_closing_what_idles_at_aiohttp_too() -> None:
    async with listening(connections_max=2) as listener:
        asked, busy = listener.hot(), listener.hot()
        asked.feed(QUERY)
        busy.feed(PUSH[:-1])
        await settle()
        assert statuses(asked) == [404]
        await asyncio.sleep(1)
        third = listener.hot()
        assert asked.is_closed
        assert not busy.is_closed
        third.feed(webhook(b"1"))
        busy.feed(PUSH[-1:])
        await settle()
        assert len(statuses(third)) == len(statuses(busy)) == 1


@virtual
async def test_an_encoded_body_is_not_taken() -> None:
    """200 kB of it may be 200 MB to unpack."""
    async with listening() as listener:
        wire = listener.hot()
        wire.feed(webhook(zlib.compress(b"{}"), b"Content-Encoding: deflate"))
        await settle()
        assert statuses(wire) == [415]
        assert listener.ingest.refused == {"body_encoded": 1}


@virtual
async def test_takes_signed_webhooks_only() -> None:
    async with listening(app_secret="secret") as listener:
        wire = listener.hot()
        digest = hmac.new(b"secret", b"x", hashlib.sha256).hexdigest().encode()
        wire.feed(webhook(b"x", b"X-Hub-Signature-256: sha256=" + digest))
        wire.feed(webhook(b"y", b"X-Hub-Signature-256: sha256=" + digest))
        wire.feed(webhook(b"x", b"X-Hub-Signature-256: sha256=" + digest.upper()))
        wire.feed(webhook(b"x", b"X-Hub-Signature-256: " + digest))
        wire.feed(webhook(b"x", b"X-Hub-Signature-256:"))
        wire.feed(webhook(b"x"))
        late = webhook(b"z", b"X-Hub-Signature-256: sha256=" + digest)
        wire.feed(late[:-1])
        wire.feed(late[-1:])
        assert statuses(wire) == [200, *[401] * 6]
        assert [body for _, body in listener.inside.taken] == [b"x"]
        assert listener.ingest.refused == {"signature": 6}
        assert isinstance(wire.protocol, Connection)


@virtual
async def test_a_connection_that_breaks_off_gives_back_what_its_body_held() -> None:
    async with listening() as listener:
        wire = listener.hot()
        wire.feed(webhook(b"x" * 1000)[:-1])
        assert listener.ingest.reading_bytes == 1000
        wire.hang_up()
        assert listener.ingest.reading_bytes == 0
        assert not listener.inside.taken


@virtual
async def test_an_answer_for_who_has_gone_is_dropped() -> None:
    async with listening() as listener:
        listener.inside.holds = True
        wire = listener.hot()
        wire.feed(webhook(b"1") + webhook(b"2"))
        wire.hang_up()
        released(listener)
        await settle()
        assert wire.written == b""
        assert [body for _, body in listener.inside.taken] == [b"1"]


def test_bodies_being_read_are_bounded_on_both_paths_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "READING_MAX_BYTES", 2 * BODY_MAX)

    async def main() -> None:
        async with listening() as listener:
            hot, plain, one_more = listener.hot(), listener.plain(), listener.hot()
            hot.feed(webhook(b"x" * BODY_MAX)[:-1])
            plain.feed(webhook(b"x" * BODY_MAX)[:-1])
            await settle()
            assert listener.ingest.reading_bytes == 2 * BODY_MAX
            one_more.feed(webhook(b"12")[:-1])
            await settle()
            assert statuses(one_more) == [503]
            assert listener.ingest.refused == {"body_crowded": 1}
            hot.feed(b"x")
            await settle()
            assert statuses(hot) == [200]
            assert listener.ingest.reading_bytes == BODY_MAX

    run_virtual(main())


@virtual
async def test_the_date_is_the_second_of_the_answer() -> None:
    async with listening() as listener:
        wire = listener.hot()
        await asyncio.sleep(0.999 - virtual_loop().wall_ms() % 1000 / 1000)
        wire.feed(webhook(b"x"))
        await asyncio.sleep(0.0011)
        wire.feed(webhook(b"x") + webhook(b"bad"))
        dates = [line for line in wire.written.split(b"\r\n") if line.startswith(b"Date: ")]
        assert dates == [
            b"Date: Tue, 14 Nov 2023 22:13:20 GMT",
            b"Date: Tue, 14 Nov 2023 22:13:21 GMT",
            b"Date: Tue, 14 Nov 2023 22:13:21 GMT",
        ]


@virtual
async def test_success_is_answered_with_these_bytes() -> None:
    async with listening() as listener:
        wire = listener.hot()
        wire.feed(webhook(b"x"))
        assert wire.written == (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
            b"Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\n{}"
        )


@virtual
async def test_stopping_lets_answers_out_and_cuts_off_the_rest() -> None:
    async with listening() as listener:
        idle, answered, never, handed, unread, unread_handed = (listener.hot() for _ in range(6))
        for wire, request in ((unread, webhook(b"0")), (unread_handed, QUERY)):
            wire.reads_answers = False
            wire.feed(request)
        listener.inside.holds = True
        answered.feed(webhook(b"1") + webhook(b"2"))
        never.feed(webhook(b"3"))
        handed.feed(QUERY)
        await settle()
        closing = asyncio.ensure_future(listener.close())
        await settle()
        assert idle.is_closed
        assert not answered.is_closed
        listener.inside.held[0]()
        await closing
        assert statuses(answered) == [200]
        assert answered.is_closed
        assert never.was_aborted
        assert handed.is_closed
        assert unread.was_aborted
        assert unread_handed.was_aborted
        assert [body for _, body in listener.inside.taken] == [b"0", b"1", b"3"]
        assert len(listener.ingest.connections) == 0
