"""Who may push."""

import hmac

from gateway.outbound.answers import PushAnswer, Refusals


class Door:
    """Knows the bearer tokens of those who may push; with none it is closed."""

    def __init__(self, tokens: tuple[str, ...], refusals: Refusals) -> None:
        self._tokens = [token.encode() for token in tokens]
        self._refusals = refusals

    def authorise(self, authorization: str | None) -> PushAnswer | None:
        """None when the header carries a token of ours, else the refusal."""
        scheme, _, token = (authorization or "").partition(" ")
        given = token.strip().encode(errors="surrogateescape")
        # Every token is compared, so that the time taken tells nothing of which one is near.
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        if scheme.lower() == "bearer" and any(matches):
            return None
        details = (
            "Invalid credentials."
            if self._tokens
            else "The push API is closed: GATEWAY_PUSH_TOKENS is unset."
        )
        return self._refusals.answer(self._refusals.denied(details))
