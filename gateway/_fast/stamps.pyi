"""The header lines of a request with one record in it, written in one go."""

from collections.abc import Callable
from typing import Self, final

@final
class Stamper:
    """Writes them for one destination, unsigned."""

    def __new__(cls, id_prefix: bytes, second_of: Callable[[int], bytes]) -> Self:
        """`id_prefix` and a record's number are its id, at most 128 bytes, else ValueError.

        `second_of` a number of seconds since 1970 is that second as text, at most 32 bytes.
        """

    def stamp(self, seq: int, received_ms: int, attempts: int, wall_ms: int) -> bytes:
        """The lines of a record that came at `received_ms`, was tried `attempts` times, and goes at `wall_ms`.

        ValueError for a time before 1970.
        """
