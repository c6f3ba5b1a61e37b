"""Reading request bodies within bounds: of each, of all together, and of time."""

import asyncio
import enum
from typing import Final

from aiohttp import web

BODY_TIMEOUT_S: Final = 30.0
"""For a body that does not come at once. WhatsApp's own time-outs are shorter."""

READING_MAX_BYTES: Final = 64 << 20
"""Of bodies being read at once, counted by what they may become: twenty of the largest webhooks. More wait at
their senders, who are told 503; a node repeats."""


class BodyProblem(enum.Enum):
    """Why there is no body; the value is what the sender is told."""

    LARGE = "the body is larger than is taken here"
    SLOW = "the body did not come in time"
    CROWDED = "too many large bodies at once"
    BROKEN = "the body does not match its headers"
    ENCODED = "an encoded body is not taken here"

    @property
    def status(self) -> int:
        return {"LARGE": 413, "SLOW": 408, "CROWDED": 503, "BROKEN": 400, "ENCODED": 415}[self.name]

    @property
    def reason(self) -> str:
        return f"body_{self.name.lower()}"


class BodyReader:
    """Reads the bodies of one listener."""

    def __init__(self) -> None:
        self.reading_bytes = 0
        """What the bodies being read may come to."""

    def try_reserve(self, size: int) -> bool:
        """Whether a body that may come to `size` bytes may be read now; then it counts until `release`."""
        if self.reading_bytes and self.reading_bytes + size > READING_MAX_BYTES:
            return False
        self.reading_bytes += size
        return True

    def release(self, size: int) -> None:
        """It has been read, or never will be."""
        self.reading_bytes -= size
        assert self.reading_bytes >= 0, self.reading_bytes

    async def read(self, request: web.Request, limit: int) -> bytes | BodyProblem:
        """The body of `request`, of at most `limit` bytes."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return BodyProblem.ENCODED
        size = request.content_length
        if size is not None and size > limit:
            return BodyProblem.LARGE
        expected = limit if size is None else size
        if not self.try_reserve(expected):
            return BodyProblem.CROWDED
        try:
            if request.content.is_eof():
                body = await request.read()  # all here already: no timer to set
            else:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return BodyProblem.LARGE
        except TimeoutError:
            return BodyProblem.SLOW
        except web.RequestPayloadError:
            return BodyProblem.BROKEN
        finally:
            self.release(expected)
        return body if len(body) <= limit else BodyProblem.LARGE
