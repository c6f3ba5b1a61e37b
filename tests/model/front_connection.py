"""A connection of the hot front, written plainly: the truth that the native one is compared with."""

from collections.abc import Callable
from typing import Any

from gateway._fast.front_connection import HEAD_TIMEOUT_S, IDLE_S, UNREAD_MAX_BYTES, UNREAD_S
from gateway._fast.http_head import HEAD_MAX_BYTES, HOT, MORE, HeadScanner


class DoorModel:
    """What connections share; the same arguments as the native door."""

    def __init__(
        self,
        take: Callable[[bytes, Callable[[Any], None]], None],
        scanner: HeadScanner,
        is_signed: Callable[[bytes, bytes], bool] | None,
        answers: Any,
        unusual: Any,
        bodies: Any,
        body_timeout_s: float,
        connections: Any,
        loop: Any,
    ) -> None:
        self.take = take
        self.scanner = scanner
        self.is_signed = is_signed
        self.answers = answers
        self.unusual = unusual
        self.bodies = bodies
        self.body_timeout_s = body_timeout_s
        self.connections = connections
        self.time = loop.time
        self.soon = loop.call_soon
        self.is_draining = False

    def drain(self) -> None:
        self.is_draining = True


class ConnectionModel:
    """One connection, from its begin to its end or until it is handed off."""

    def __init__(self, door: DoorModel) -> None:
        self._door = door
        self._transport: Any = None
        self._partial = b""
        self._body: bytearray | None = None
        self._body_size = 0
        self._signature = b""
        self._waits = False
        self._held = b""
        self.is_choked = False
        self._closes = False
        """Once what it waits for is answered."""
        self.since = 0.0

    @property
    def is_idle(self) -> bool:
        if self._waits or self._partial or self._held or self._body is not None or self._transport is None:
            return False
        return not self._transport.get_write_buffer_size()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(UNREAD_MAX_BYTES)
        self.since = self._door.time()
        if not self._door.connections.add(self):
            self._refuse("connections", closes=True)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._door.connections.remove(self)
        if self._body is not None:
            self._body = None
            self._door.bodies.release(self._body_size)

    def data_received(self, data: bytes) -> None:
        if self._waits or self._held or self.is_choked:
            self._hold(data)
        elif self._body is not None:
            self._fill(self._body, data)
        elif self._partial:
            data = self._partial + data
            # Scanned again only when a line has ended: at most as often as a head has lines.
            if b"\n" in data[len(self._partial) :] or len(data) >= HEAD_MAX_BYTES:
                self._work(data)
            else:
                self._partial = data
        else:
            self._work(data)

    def pause_writing(self) -> None:
        self.is_choked = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.is_choked = False
        self._go_on()

    def expire(self, now: float) -> None:
        """End it if a head, a body, a reader or the next request has taken too long. An answer takes what it takes."""
        transport = self._transport
        if transport is None or self._waits:
            return
        age = now - self.since
        if transport.get_write_buffer_size():
            if age >= UNREAD_S:
                transport.abort()
        elif self._body is not None:
            if age >= self._door.body_timeout_s:
                self._refuse("body_slow", closes=True)
        elif self._partial:
            if age >= HEAD_TIMEOUT_S:
                self._refuse("head_slow", closes=True)
        elif age >= IDLE_S:
            transport.close()

    def close(self) -> None:
        """Close it when what it waits for is answered: at once if it waits for nothing."""
        self._closes = True
        if self._transport is not None and not self._waits:
            self._transport.close()

    def evict(self) -> None:
        """Close it, idle as it is."""
        self.close()

    def abort(self) -> None:
        """Close it now, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def _work(self, data: bytes) -> None:
        """Take the requests in `data` one after the other, as far as that goes."""
        door = self._door
        scanner = door.scanner
        size = len(data)
        start = 0
        while (verdict := scanner.scan(data, start)) == HOT and not door.is_draining:
            self._partial = b""
            start_of_body = scanner.body_start
            end = start_of_body + scanner.body_size
            signature = b""
            if door.is_signed is not None:
                at = scanner.signature_start
                signature = data[at : at + scanner.signature_size]
            if end > size:
                if not door.bodies.try_reserve(scanner.body_size):
                    break  # aiohttp refuses it, and reads what still comes
                self._body = bytearray(data[start_of_body:])
                self._body_size = scanner.body_size
                self._signature = signature
                self.since = door.time()
                return
            self._take(data[start_of_body:end], signature)
            if end == size:
                return
            if not self._is_free():
                self._hold(data[end:])
                return
            start = end
        if verdict == MORE:
            if not self._partial:
                self.since = door.time()
            self._partial = data[start:]
        else:
            self._hand_off(data[start:])

    def _fill(self, body: bytearray, data: bytes) -> None:
        """More of a body; what is behind it is the next request."""
        missing = self._body_size - len(body)
        if len(data) < missing:
            body += data
            return
        rest = data[missing:]
        body += data[:missing]
        self._body = None
        self._door.bodies.release(self._body_size)
        self._take(bytes(body), self._signature)
        if not rest:
            return
        if self._is_free():
            self._work(rest)
        else:
            self._hold(rest)

    def _take(self, body: bytes, signature: bytes) -> None:
        """Hand a whole body to the inside, which may answer before this returns."""
        door = self._door
        if door.is_signed is not None and not door.is_signed(body, signature):
            self._refuse("signature", closes=False)
            return
        self._waits = True
        door.take(body, self)

    def __call__(self, reception: Any) -> None:
        """Called once for each body taken."""
        assert self._waits, "answered twice"
        self._waits = False
        transport = self._transport
        if transport is None:
            return  # the client has gone; a node repeats
        door = self._door
        self.since = now = door.time()
        if reception.status == 200:
            transport.write(door.answers.ok(now))
        else:
            transport.write(door.unusual.answer(reception, now))
        if self._closes:
            self.close()
        elif self._held:
            # Not now: the store calls us while it tells of a commit, and what is held may be anything.
            door.soon(self._go_on)

    def _refuse(self, why: str, *, closes: bool) -> None:
        assert self._transport is not None
        self.since = now = self._door.time()
        self._transport.write(self._door.unusual.refusal(why, now, closes))
        if closes:
            self.close()

    def _is_free(self) -> bool:
        """Whether the next request may be looked at."""
        transport = self._transport
        return not (self._waits or self.is_choked or transport is None or transport.is_closing())

    def _hold(self, data: bytes) -> None:
        """Keep what has been read for later, and read no more until then."""
        self._held += data
        if self._transport is not None:
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Look at what was held, and read again; not if an answer or the client's reading will lead here once more."""
        transport = self._transport
        if transport is None or transport.is_closing() or self.is_choked or (self._waits and self._held):
            return
        held, self._held = self._held, b""
        transport.resume_reading()
        if held:
            self._work(held)

    def _hand_off(self, data: bytes) -> None:
        """Leave the connection, from these bytes on, to aiohttp. All answers of ours are out by now."""
        door, transport = self._door, self._transport
        assert transport is not None
        assert not self._waits, "handed off with an answer to give"
        if transport.is_closing():
            return
        door.unusual.hand_off(self, transport, data, door.time())
