"""How a request of the push API is answered, and how it is refused in the dialect's own shape."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.dialects.dialect import Dialect, Refusal

RETRY_AFTER_S: Final = 5
"""What a refused push is told where nobody knows better."""
RETRY_AFTER_MAX_S: Final = 24 * 3600


class PushAnswer:
    """HTTP status, JSON body and headers."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


class Refused(msgspec.Struct, frozen=True):
    """Why a push is refused, as it is counted and as it is told."""

    reason: str
    refusal: Refusal
    retry_after_s: float = RETRY_AFTER_S


class Refusals:
    """Makes refusals, and counts them by reason."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._codes = dialect.codes
        self.counts: dict[str, int] = {}

    def answer(self, refused: Refused) -> PushAnswer:
        """The answer to a request that is refused as a whole."""
        self.count(refused)
        headers = {}
        if refused.refusal.status in (429, 503):
            headers["Retry-After"] = str(math.ceil(min(max(refused.retry_after_s, 1), RETRY_AFTER_MAX_S)))
        return PushAnswer(refused.refusal.status, self._dialect.refusal_body(refused.refusal), headers)

    def count(self, refused: Refused) -> None:
        """Count one that is told in another way."""
        self.counts[refused.reason] = self.counts.get(refused.reason, 0) + 1

    def invalid(self, details: str) -> Refused:
        """Something in the request is not what it must be."""
        refusal = Refusal(400, self._codes.invalid, "Parameter value is not valid", details)
        return Refused("invalid", refusal)

    def busy(self, reason: str, details: str, retry_after_s: float = RETRY_AFTER_S) -> Refused:
        """There is no room now."""
        return Refused(reason, Refusal(429, self._codes.busy, "Too many requests", details), retry_after_s)

    def store(self, error: Exception) -> Refused:
        """The disk has failed."""
        return Refused("store", Refusal(503, self._codes.busy, "Service not ready", str(error)))

    def too_late(self, details: str) -> Refused:
        """What should be changed is beyond change."""
        return Refused("too_late", Refusal(409, self._codes.invalid, "Too late", details))

    def not_found(self, details: str) -> Refused:
        """Nobody knows of it, or not any more."""
        return Refused("not_found", Refusal(404, self._codes.not_found, "Resource not found", details))

    def key_used(self) -> Refused:
        """The idempotency key belongs to another request."""
        details = "this Idempotency-Key came with another request before"
        return Refused("key_used", Refusal(409, self._codes.invalid, "Idempotency-Key used", details))

    def denied(self, details: str) -> Refused:
        """The sender is not one of ours."""
        return Refused("denied", Refusal(401, self._codes.denied, "Access denied", details))

    def large(self, limit_bytes: int) -> Refused:
        """The body is over `limit_bytes`."""
        details = f"the body is larger than GATEWAY_PUSH_BODY_MAX, {limit_bytes} bytes"
        return Refused("large", Refusal(413, self._codes.invalid, "Request too large", details))
