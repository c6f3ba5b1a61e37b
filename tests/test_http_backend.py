"""A destination of the backend over HTTP: what it is sent, and what of the answer reaches a forwarder."""

import pytest
from http_rig import URL, Rig, play, settle

from gateway.app.bridges import HttpBackend, Nowhere
from gateway.inbound.destination import BackendAnswer


def fields(answer: BackendAnswer) -> tuple[int | None, bytes, str | None, bool]:
    return answer.status, answer.body, answer.retry_after, answer.was_sent


@pytest.mark.parametrize(
    ("head", "retry_after"),
    [
        (b"503 Busy\r\nRetry-After: 7", "7"),
        (b"429 Slow\r\nretry-after:  Wed, 21 Oct 2026 07:28:00 GMT ", "Wed, 21 Oct 2026 07:28:00 GMT"),
        (b"500 Oh", None),
        (b"200 OK\r\nRetry-After: 7", None),
    ],
)
def test_an_answer_says_when_to_come_again_unless_all_is_well(head: bytes, retry_after: str | None) -> None:
    async def story(rig: Rig) -> None:
        answers: list[BackendAnswer] = []
        HttpBackend(rig.http, URL).post_soon(b"{}", b"webhook-id: 1\r\n", answers.append)
        await settle()
        assert (
            b"\r\nContent-Type: application/json\r\nwebhook-id: 1\r\nContent-Length: 2\r\n\r\n{}"
            in rig.wire.taken
        )
        rig.wire.say(b"HTTP/1.1 " + head + b"\r\nContent-Length: 2\r\n\r\nhi")
        assert [fields(answer) for answer in answers] == [(int(head[:3]), b"hi", retry_after, True)]

    play(story)


def test_no_answer_says_whether_it_was_sent() -> None:
    async def story(rig: Rig) -> None:
        answers: list[BackendAnswer] = []
        backend = HttpBackend(rig.http, URL)
        rig.network.error = ConnectionRefusedError("refused")
        backend.post_soon(b"{}", b"", answers.append)
        await settle()
        rig.network.error = None
        backend.post_soon(b"{}", b"", answers.append)
        await settle()
        rig.wire.hang_up()
        assert [fields(answer) for answer in answers] == [(None, b"", None, False), (None, b"", None, True)]
        assert all(answer.error for answer in answers)

    play(story)


def test_a_post_can_be_cancelled() -> None:
    async def story(rig: Rig) -> None:
        answers: list[BackendAnswer] = []
        HttpBackend(rig.http, URL).post_soon(b"{}", b"", answers.append).cancel()
        Nowhere().post_soon(b"{}", b"", answers.append).cancel()
        await settle()
        assert answers == []

    play(story)


def test_what_goes_nowhere_is_done_with_but_not_at_once() -> None:
    async def story(rig: Rig) -> None:
        answers: list[BackendAnswer] = []
        Nowhere().post_soon(b"{}", b"", answers.append)
        assert answers == []
        await settle()
        assert [answer.status for answer in answers] == [204]

    play(story)
