"""Recognises the head of a perfectly ordinary webhook request, and nothing else."""

from typing import Final, Self, final

HOT: Final = 1
"""A webhook whose body has a known size; the offsets say where it is."""
MORE: Final = 0
"""Hot so far, and not complete."""
OTHER: Final = -1
"""Not ordinary: to be looked at by a complete HTTP server."""

HEAD_MAX_BYTES: Final = 16384
"""Of request line and fields together; a longer head is OTHER."""

@final
class HeadScanner:
    """Looks for HTTP/1.1 POSTs to one path, with exactly one Host and one Content-Length.

    It takes less than RFC 9112 allows and never more: token characters in names, printable ASCII in values, CRLF at
    every line's end, at most 64 fields of 8000 bytes, decimal digits as length, `keep-alive` as the only Connection.
    What changes framing or meaning (Transfer-Encoding, Expect, Upgrade, Content-Encoding and such) makes a head OTHER.
    """

    def __new__(cls, path: bytes, body_max: int) -> Self:
        """For requests to `path` with bodies of at most `body_max` bytes (0..2**40, else ValueError)."""

    def scan(self, data: bytes, start: int = 0) -> int:
        """Whether a head at `start` in `data` is HOT, OTHER, or may become HOT with MORE.

        `start` beyond the data raises ValueError. O(head); the offsets hold until the next call.
        """

    @property
    def body_start(self) -> int:
        """Where in the data the body begins."""

    @property
    def body_size(self) -> int:
        """Bytes of the body, by Content-Length. They may not be there yet."""

    @property
    def signature_start(self) -> int:
        """Where in the data the value of X-Hub-Signature-256 begins."""

    @property
    def signature_size(self) -> int:
        """Bytes of that value; 0 without one."""
