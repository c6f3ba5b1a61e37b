"""Logins: Basic in, a Bearer token out that lives seven days, unless it is logged out or expired by a test."""

import base64
import binascii
import random
from typing import Final

LIFETIME_MS: Final = 7 * 24 * 3600 * 1000
"""The published default of the client."""
TOKENS_MAX: Final = 1000
"""Valid at once; the oldest is forgotten. How many the real client keeps was never published."""


class Tokens:
    """The tokens of one user. Times are wall clock, UTC milliseconds."""

    def __init__(self, user: str, password: str, rng: random.Random) -> None:
        self._credentials = f"{user}:{password}"
        self._rng = rng
        self._expires_ms: dict[str, int] = {}
        self.logins = 0

    def login(self, authorization: str, wall_ms: int) -> tuple[str, int] | None:
        """A new token and its end for the right `Basic ...` header, otherwise None."""
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic" or _decode(encoded) != self._credentials:
            return None
        token = base64.urlsafe_b64encode(self._rng.randbytes(30)).decode()
        if len(self._expires_ms) >= TOKENS_MAX:
            del self._expires_ms[next(iter(self._expires_ms))]
        self._expires_ms[token] = wall_ms + LIFETIME_MS
        self.logins += 1
        return token, wall_ms + LIFETIME_MS

    def is_valid(self, authorization: str, wall_ms: int) -> bool:
        """Whether a `Bearer ...` header lets the request in."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and self._expires_ms.get(token, 0) > wall_ms

    def logout(self, authorization: str) -> None:
        """Revoke the token that asked."""
        self._expires_ms.pop(authorization.partition(" ")[2], None)

    def expire_all(self) -> None:
        """Revoke every token now: the next request of each holder answers 401."""
        self._expires_ms.clear()


def _decode(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
