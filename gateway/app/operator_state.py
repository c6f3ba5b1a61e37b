"""What an operator, or a destination that is gone, has switched off: kept in the store, so that a restart changes nothing.

Isolated: nothing is forwarded to the backend; webhooks are answered and stored as always. Suspended: no message is sent to
the node; pushes are taken and wait. Both may be at once. A destination that has answered 410 is paused for itself, until an
operator resumes it or it has another URL. What is under way when something is switched off is finished.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from gateway.inbound.forward import GONE, Forwarder
from gateway.ops import systemd
from gateway.outbound.pace import Pacer
from gateway.store.protocol import Change, OpenStore

log = logging.getLogger(__name__)

NOTE: Final = "operator state"
ISOLATED: Final = "isolated"
SUSPENDED: Final = "suspended"

Part = Literal["isolated", "suspended", "gone"]
"""What can be resumed for itself."""


class _Note(msgspec.Struct):
    """What is kept."""

    is_isolated: bool = False
    is_suspended: bool = False
    gone: dict[str, str] = {}
    """Destinations that are gone, and what their URL was (a digest: it may have a secret in it)."""


class OperatorState:
    """The switches. Calls are made on the loop."""

    def __init__(
        self, store: OpenStore, forwarders: Sequence[Forwarder], pacer: Pacer, urls: Mapping[str, str]
    ) -> None:
        """Switch off what the note of a run before says; `urls` has each forwarder's, by its name."""
        self._store = store
        self._forwarders = forwarders
        self._pacer = pacer
        self._urls = {name: _digest(url) for name, url in urls.items()}
        self._note = self._read(store.recovered.notes.get(NOTE))
        gone = self._note.gone
        self._note.gone = {name: url for name, url in gone.items() if self._urls.get(name) == url}
        self.is_draining = False
        for forwarder in forwarders:
            forwarder.on_gone = self._keep_gone
            if forwarder.name in self._note.gone:
                forwarder.gate.close(GONE)
        self._apply()
        if self.names():
            log.warning("switched off before the start", extra={"state": self.names()})

    def _read(self, note: bytes | None) -> _Note:
        try:
            return msgspec.json.decode(note, type=_Note) if note else _Note()
        except msgspec.DecodeError as error:
            log.warning("the operator's state can't be read", extra={"error": str(error)})
            return _Note()

    @property
    def destinations(self) -> list[str]:
        """Their names."""
        return [forwarder.name for forwarder in self._forwarders]

    @property
    def is_isolated(self) -> bool:
        return self._note.is_isolated

    @property
    def is_suspended(self) -> bool:
        return self._note.is_suspended

    @property
    def gone(self) -> list[str]:
        """Destinations that have answered 410."""
        return [forwarder.name for forwarder in self._forwarders if GONE in forwarder.gate.closed_by]

    def names(self) -> list[str]:
        """What is switched off, in words; empty while everything runs."""
        found = [f"{name} webhook gone" for name in self.gone]
        if self.is_suspended:
            found.insert(0, SUSPENDED)
        if self.is_isolated:
            found.insert(0, ISOLATED)
        return [*(["draining"] if self.is_draining else []), *found]

    async def switch_off(self, part: Literal["isolated", "suspended"]) -> None:
        """Isolate or suspend; in effect at once, and waits until that is on disk. Raises StoreError."""
        if part == ISOLATED:
            self._note.is_isolated = True
        else:
            self._note.is_suspended = True
        await self._changed()

    async def resume(self, part: Part | None = None) -> None:
        """Let it run again: one of them, or all. As `switch_off`."""
        if part in (None, "isolated"):
            self._note.is_isolated = False
        if part in (None, "suspended"):
            self._note.is_suspended = False
        if part in (None, "gone"):
            self._note.gone = {}
            for forwarder in self._forwarders:
                forwarder.gate.reopen(GONE)
        await self._changed()

    async def _changed(self) -> None:
        self._apply()
        log.warning("operator changed the state", extra={"state": self.names() or ["running"]})
        self.show()
        await self._store.submit(self._change())

    def _apply(self) -> None:
        for forwarder in self._forwarders:
            if self.is_isolated:
                forwarder.gate.close(ISOLATED)
            else:
                forwarder.gate.reopen(ISOLATED)
        if self.is_suspended:
            self._pacer.suspend()
        else:
            self._pacer.resume()

    def _keep_gone(self) -> None:
        self._note.gone = {name: self._urls[name] for name in self.gone}
        self.show()
        # A store that failed has told so itself, and ends the process: nobody needs to hear it from here.
        self._store.submit(self._change()).add_done_callback(
            lambda written: written.cancelled() or written.exception()
        )

    def _change(self) -> Change:
        return Change(notes={NOTE: msgspec.json.encode(self._note)})

    def show(self) -> None:
        """Tell the service manager, for `systemctl status`."""
        systemd.status(", ".join(self.names()) or "running")


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
