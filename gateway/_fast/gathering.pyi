"""What is put into the store, until a thread takes it."""

import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

@disjoint_base
class Gathering:
    """Base of `gateway.store.sqlite_store.SqliteStore`, whose calls of these names say what they do.

    It brings `_take(gathered)`, `_refuse(change)` for who is too late, `_tell_unmade(error)` for a change that could not be
    made, and `_tell_failed(changes, error)` for a part that failed to take note of a commit, and those that were not told.
    """

    waiting_changes: int
    """Put, and not told."""
    _failure: Any
    _is_closed: bool

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Any, company_s: float, batch_max: int) -> None:
        """What can wait does so for `company_s` (0: it can't); at `batch_max` changes they are taken at once."""

    @property
    def changes(self) -> int:
        """Told, by their size."""

    @property
    def _gathered(self) -> list[Any]: ...
    @property
    def _makers(self) -> list[Callable[[], Any]]: ...
    @property
    def _waiting_since_ns(self) -> int: ...
    @property
    def _timer(self) -> asyncio.TimerHandle | None: ...
    def put(self, change: Any, *, can_wait: bool = False) -> None: ...
    def gather(self, make: Callable[[], Any], *, can_wait: bool = False) -> None: ...
    def hurry(self) -> None: ...
    def _hand_over(self) -> None: ...
    def _tell_changes(self, changes: list[Any]) -> None: ...
