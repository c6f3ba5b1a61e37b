"""What a queue holds, as the queue sees it."""

from typing import Protocol, TypeVar

from gateway.events import Kind


class Record(Protocol):
    """`cls` is a small integer, 0 going first."""

    seq: int
    body: bytes

    @property
    def cls(self) -> int: ...

    def kind_counts(self) -> tuple[tuple[Kind, int], ...]: ...


R = TypeVar("R", bound=Record)
