"""A value that must not reach a log, an error or a screen."""

import hmac

MASK = "***"


class Secret:
    """Text that shows itself only through `reveal`; every other face of it is `***`.

    Not a `str` on purpose: an f-string, a log record or an encoder that meets one by accident cannot leak it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        assert text, "an unset secret is None, not empty"
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that sends or compares it."""
        return self._text

    def matches(self, given: str) -> bool:
        """Compare in constant time: how long it takes tells nothing about where `given` differs."""
        return hmac.compare_digest(self._text.encode(), given.encode())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._text)

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")
