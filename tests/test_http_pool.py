"""The HTTP client's pool on a network in memory: who gets a connection, how long it takes, and how it ends."""

import asyncio
from collections.abc import Callable

import pytest
from http_rig import OK, TIMEOUT_S, URL, Rig, play, settle, told
from virtual_time import virtual_loop

from gateway.http.client import CONNECT_SHARE, HttpClient, Response
from gateway.http.pool import IDLE_NS

IDLE_S = IDLE_NS / 1e9


# -- the limit


def test_no_more_connections_than_the_limit_and_those_who_wait_go_in_order() -> None:
    async def story(rig: Rig) -> None:
        for number in range(7):
            rig.start(b"%d" % number)
        await settle()
        assert len(rig.network.wires) == 3
        order = [wire.taken[-1:] for wire in rig.network.wires]
        first = rig.network.wires[0]
        for _ in range(5):
            first.say(OK)
            order.append(first.taken[-1:])
            assert rig.statistics()["in_use"] == 3 - (len(rig.answers) == 5)
        assert order == [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"6"]
        for wire in rig.network.wires[1:]:
            wire.say(OK)
        assert rig.statistics() == {"in_use": 0, "idle": 3, "connecting": 0, "waiting": 0}
        assert len({await rig.sent() for _ in range(3)}) == 3
        assert rig.network.dialled == 3

    play(story, connections=3)


def test_a_place_that_falls_free_is_for_the_first_who_waits() -> None:
    async def story(rig: Rig) -> None:
        for number in range(3):
            rig.start(b"%d" % number)
        await settle()
        rig.wire.hang_up()
        await settle()
        assert rig.wire.taken.endswith(b"1")
        rig.wire.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await settle()
        assert rig.wire.taken.endswith(b"2")
        assert (rig.network.dialled, sorted(rig.answers)) == (3, [0, 1])

    play(story, connections=1)


def test_one_who_waits_is_served_after_a_connection_that_broke() -> None:
    async def story(rig: Rig) -> None:
        for number in range(3):
            rig.start(b"%d" % number)
        await settle()
        wire = rig.wire
        wire.is_broken = True  # found out when the next request is written
        wire.say(OK)
        await settle()
        assert rig.wire.taken.endswith(b"1")
        rig.wire.say(OK)
        assert rig.wire.taken.endswith(b"2")

    play(story, connections=1)


def test_after_a_failed_connection_the_next_who_waits_tries() -> None:
    async def story(rig: Rig) -> None:
        rig.network.error = ConnectionRefusedError(111, "Connection refused")
        for _ in range(3):
            rig.start()
        await settle()
        assert {told(answer) for answer in rig.answers.values()} == {(None, b"", False)}
        assert (rig.network.dialled, len(rig.answers)) == (3, 3)
        assert "backend.test:80" in rig.answers[0].error

    play(story, connections=1)


def test_other_hosts_have_connections_of_their_own() -> None:
    async def story(rig: Rig) -> None:
        rig.start()
        rig.start(endpoint=rig.http.endpoint("POST", "http://other.test/", {}))
        rig.start(endpoint=rig.http.endpoint("POST", "http://backend.test:81/", {}))
        rig.start(endpoint=rig.http.endpoint("POST", "https://backend.test:81/", {}))
        await settle()
        assert len(rig.network.wires) == 4

    play(story, connections=1)


# -- time


def test_an_answer_has_until_the_time_out_and_not_a_moment_more() -> None:
    async def story(rig: Rig) -> None:
        wire = await rig.sent()
        wire.say(OK[:-1])
        await asyncio.sleep(TIMEOUT_S - 0.001)
        assert rig.answers == {}
        await asyncio.sleep(0.002)
        assert (told(rig.answers[0]), rig.answers[0].error) == ((200, b"", True), "body: timed out")
        assert wire.is_closing()
        rig.start()
        await settle()
        await asyncio.sleep(TIMEOUT_S + 0.001)
        assert (told(rig.answers[1]), rig.answers[1].error) == ((None, b"", True), "timed out")

    play(story)


def test_each_request_has_its_own_time() -> None:
    async def story(rig: Rig) -> None:
        for _ in range(4):
            rig.start()
            await asyncio.sleep(1)
        await asyncio.sleep(TIMEOUT_S - 4 - 0.001)
        for number in range(4):
            assert sorted(rig.answers) == list(range(number))
            await asyncio.sleep(0.002)
            assert sorted(rig.answers) == list(range(number + 1))
            await asyncio.sleep(0.998)

    play(story)


def test_a_request_on_a_connection_that_idled_has_its_time() -> None:
    async def story(rig: Rig) -> None:
        (await rig.sent()).say(OK)
        await asyncio.sleep(TIMEOUT_S + 5)
        rig.start()
        await asyncio.sleep(TIMEOUT_S + 0.001)
        assert rig.answers[1].error == "timed out"
        assert rig.network.dialled == 1

    play(story)


def test_waiting_while_a_connection_is_made_is_part_of_the_time() -> None:
    async def story(rig: Rig) -> None:
        rig.network.gate.clear()
        begin_s = virtual_loop().time()
        for _ in range(3):
            rig.start()
            await asyncio.sleep(1)
        await asyncio.sleep(0.1)
        ended: dict[int, float] = {}
        while len(ended) < 3:
            await asyncio.sleep(0.25)
            ended.update({number: virtual_loop().time() for number in rig.answers if number not in ended})
        # We look 0.1 s after each quarter of a second.
        assert [round(ended[number] - begin_s, 2) for number in range(3)] == [8.1, 11.1, 12.1]
        assert {answer.was_sent for answer in rig.answers.values()} == {False}

    play(story, connections=1)


def test_waiting_for_a_connection_is_part_of_the_time() -> None:
    async def story(rig: Rig) -> None:
        rig.start()
        await asyncio.sleep(4)
        rig.start()
        rig.start()
        await asyncio.sleep(5)
        rig.wire.say(OK)  # at 9 the second begins, at 14 it and the third end
        await asyncio.sleep(4.999)
        assert sorted(rig.answers) == [0]
        await asyncio.sleep(0.002)
        assert (told(rig.answers[1]), rig.answers[1].error) == ((None, b"", True), "timed out")
        assert told(rig.answers[2]) == (None, b"", False)
        assert "no free connection" in rig.answers[2].error
        await settle()
        assert rig.network.dialled == 1

    play(story, connections=1)


def test_connecting_has_its_share_of_the_time() -> None:
    async def story(rig: Rig) -> None:
        rig.network.gate.clear()
        rig.start()
        await asyncio.sleep(CONNECT_SHARE * TIMEOUT_S - 0.001)
        assert rig.answers == {}
        await asyncio.sleep(0.002)
        assert told(rig.answers[0]) == (None, b"", False)
        assert "cannot connect to backend.test:80: timed out" in rig.answers[0].error

    play(story)


@pytest.mark.parametrize("timeout_s", [TIMEOUT_S, 10 * IDLE_S])
def test_an_idle_connection_is_closed_after_a_minute(timeout_s: float) -> None:
    async def story(rig: Rig) -> None:
        wire = await rig.sent()
        await asyncio.sleep(5)
        wire.say(OK)
        await asyncio.sleep(IDLE_S - 0.001)
        assert not wire.is_closing()
        await asyncio.sleep(0.002)
        assert wire.is_closing()

    play(story, timeout_s=timeout_s)


def test_an_idle_client_never_wakes_the_loop() -> None:
    async def story(rig: Rig) -> None:
        for _ in range(3):
            (await rig.sent()).say(OK)
        await asyncio.sleep(2 * IDLE_S)
        before = virtual_loop().virtual.jumps
        await asyncio.sleep(86_400)
        assert virtual_loop().virtual.jumps == before + 1  # our own

    play(story)


def test_a_busy_client_wakes_the_loop_once_a_time_out() -> None:
    async def story(rig: Rig) -> None:
        before = virtual_loop().virtual.jumps
        for _ in range(1000):
            (await rig.sent()).say(OK)
            await asyncio.sleep(0.1)
        of_timers = virtual_loop().virtual.jumps - before - 1000
        assert of_timers <= 100 / TIMEOUT_S + 1

    play(story)


# -- cancelling and closing


def test_cancelling_a_request_closes_its_connection_and_calls_nobody() -> None:
    async def story(rig: Rig) -> None:
        exchange = rig.start()
        await settle()
        exchange.cancel()
        assert rig.wire.is_closing()
        second = await rig.sent()
        second.say(OK)
        exchange.cancel()
        assert (list(rig.answers), second.is_closing()) == ([1], False)

    play(story)


def test_cancelling_while_connecting_or_waiting_leaves_no_trace() -> None:
    async def story(rig: Rig) -> None:
        rig.network.gate.clear()
        connecting, waiting, last = rig.start(b"0"), rig.start(b"1"), rig.start(b"2")
        await settle()
        waiting.cancel()
        connecting.cancel()
        rig.network.gate.set()
        await settle()
        assert (len(rig.network.wires), rig.wire.taken[-1:]) == (1, b"2")
        rig.wire.say(OK)
        assert (list(rig.answers), last.is_over) == ([2], True)

    play(story, connections=1)


def test_a_request_that_was_cancelled_does_not_hinder_closing() -> None:
    async def story(rig: Rig) -> None:
        rig.network.gate.clear()
        connecting, waiting = rig.start(), rig.start()
        await settle()
        connecting.cancel()
        waiting.cancel()
        await rig.http.close()
        rig.start().cancel()
        await settle()
        assert rig.answers == {}

    play(story, connections=1)


def test_cancelling_the_task_that_waits_cancels_the_request() -> None:
    async def story(rig: Rig) -> None:
        asking = asyncio.create_task(rig.http.request("POST", URL, b"x"))
        await settle()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert rig.wire.is_closing()

    play(story)


def test_closing_ends_everything_and_nothing_begins_after_it() -> None:
    async def story(rig: Rig) -> None:
        wire = await rig.sent()
        rig.network.gate.clear()
        rig.start()
        rig.start()
        await settle()
        await rig.http.close()
        assert [told(rig.answers[number]) for number in range(3)] == [
            (None, b"", True),
            (None, b"", False),
            (None, b"", False),
        ]
        assert wire.is_closing()
        dialled = rig.network.dialled
        rig.start()
        assert 3 not in rig.answers
        await settle()
        assert (told(rig.answers[3]), rig.network.dialled) == ((None, b"", False), dialled)

    play(story, connections=2)


def test_a_request_may_begin_in_the_callback_of_another_and_finds_its_connection() -> None:
    async def story(rig: Rig) -> None:
        bodies = []

        def done(response: Response) -> None:
            bodies.append(response.body)
            if len(bodies) < 5:
                rig.endpoint.start(b"again", b"", done)

        rig.endpoint.start(b"first", b"", done)
        await settle()
        for _ in range(5):
            rig.wire.say(OK)
        assert (len(bodies), rig.network.dialled) == (5, 1)

    play(story)


def test_many_requests_each_get_the_answer_that_is_theirs() -> None:
    """Answers of all kinds, cut anywhere, on connections that live and die: no answer goes to another's request."""

    async def story(rig: Rig) -> None:
        kinds: list[Callable[[bytes], bytes]] = [
            lambda text: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text,
            lambda text: (
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(text) + text
            ),
            lambda text: (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
                % (len(text), text)
            ),
            lambda text: (
                b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b!" % (len(text), text)
            ),
        ]
        for number in range(200):
            rig.start(b"%06d" % number)
        turn = 0
        while len(rig.answers) < 200:
            await settle()
            for wire in rig.network.open_wires:
                turn += 1
                raw = kinds[turn % len(kinds)](wire.taken[-6:])
                wire.say(raw[: turn % len(raw)] or raw[:1])
                if not wire.is_closing():
                    wire.say(raw[turn % len(raw) or 1 :])
        assert {number: answer.body for number, answer in rig.answers.items()} == {
            number: b"%06d" % number for number in range(200)
        }

    play(story)


def test_a_client_can_be_closed_before_it_was_used() -> None:
    async def story(rig: Rig) -> None:
        await HttpClient(1000, 1, None).close()  # type: ignore[arg-type]  # no TLS is looked at

    play(story)


# -- what a review found


def test_a_request_that_was_connecting_when_others_were_looked_at_has_its_time_out() -> None:
    async def story(rig: Rig) -> None:
        first = await rig.sent()  # the alarm is set for its time-out
        first.say(OK)
        first.hang_up()
        await settle()
        await asyncio.sleep(TIMEOUT_S - 1)
        rig.network.gate.clear()
        rig.start()  # it connects while that alarm rings
        await asyncio.sleep(2)
        rig.network.gate.set()
        await settle()
        assert len(rig.answers) == 1
        await asyncio.sleep(TIMEOUT_S)
        assert told(rig.answers[1])[0] is None

    play(story)


def test_one_that_is_cancelled_before_it_could_begin_leaves_its_place() -> None:
    async def story(rig: Rig) -> None:
        for _ in range(3):
            rig.start().cancel()
        await settle()
        assert rig.statistics() == {"in_use": 0, "idle": 0, "connecting": 0, "waiting": 0}

    play(story, connections=3)


def test_a_request_that_was_sent_in_the_round_in_which_all_is_closed_may_have_been_sent() -> None:
    async def story(rig: Rig) -> None:
        rig.start()
        await asyncio.sleep(0)  # the dial has ended, and its end is not noticed yet
        assert (rig.wire.taken[-4:], rig.statistics()["connecting"]) == (b"body", 1)
        [pool] = rig.http._pools.values()
        await pool.close()
        assert (told(rig.answers[0]), rig.wire.is_closing()) == ((None, b"", True), True)

    play(story)
