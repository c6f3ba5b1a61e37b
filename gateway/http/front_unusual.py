"""What the connections of the hot front do seldom, in Python: answers other than 200, and leaving one to aiohttp."""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp.web_protocol import RequestHandler

from gateway.http.app_secret import SIGNATURE_WRONG
from gateway.http.bodies import BodyProblem
from gateway.http.front_answers import Answers, Reception
from gateway.http.front_handoff import HandedOff
from gateway.http.front_table import Connections, Guest

REFUSALS: Final = {
    "connections": (503, "too many connections\n"),
    "head_slow": (408, "the head did not come in time\n"),
    BodyProblem.SLOW.reason: (BodyProblem.SLOW.status, f"{BodyProblem.SLOW.value}\n"),
    "signature": (401, SIGNATURE_WRONG),
}
"""What is refused before anybody inside has seen it, by reason: the status, and what the sender is told."""


class Unusual:
    """Shared by the connections of a listener. Calls are given the loop's time, in seconds."""

    def __init__(
        self,
        refuse: Callable[[str], None],
        handler: Callable[[], RequestHandler],
        answers: Answers,
        connections: Connections,
    ) -> None:
        """`refuse` counts what is refused here, by reason; `handler` makes aiohttp's for a connection."""
        self._refuse = refuse
        self._handler = handler
        self._answers = answers
        self._connections = connections

    def answer(self, reception: Reception, now: float) -> bytes:
        """What the sender of a webhook is told by the inside, with a status other than 200."""
        return self._answers.refusal(reception.status, f"{reception.reason}\n", now)

    def refusal(self, why: str, now: float, closes: bool) -> bytes:
        """Count it, and say so to the sender; `closes`: nothing follows."""
        self._refuse(why)
        status, text = REFUSALS[why]
        return self._answers.refusal(status, text, now, closes=closes)

    def hand_off(self, connection: Guest, transport: asyncio.Transport, data: bytes, now: float) -> None:
        """Make it aiohttp's, which begins with `data`."""
        handed = HandedOff(self._handler(), self._connections, transport, now)
        self._connections.replace(connection, handed)
        handed.start(data)
