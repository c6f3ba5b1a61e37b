"""A webhook body to the events in it, and a body to the parts that go to each destination.

Decoding names only the fields we act on; the bytes are what travels. A body is taken apart only when
its events go to more than one destination, or when some of them are duplicates.
"""

import json
from typing import Final, TypeAlias

import msgspec

from gateway.dialects import wire
from gateway.errors import NotJsonError
from gateway.events import InboundClass, Kind

Place: TypeAlias = tuple[int, int, str, int]
"""Where an event stands in its body: entry, change (both 0 on-prem), array, item. Array "" is a whole change."""

WHOLE_BODY: Final[Place] = (0, 0, "", 0)

_STATUS_KINDS: Final = {
    "sent": Kind.SENT,
    "delivered": Kind.DELIVERED,
    "read": Kind.READ,
    "played": Kind.READ,
    "failed": Kind.FAILED,
}
_RECEIPTS: Final = frozenset({Kind.SENT, Kind.DELIVERED, Kind.READ})
_OVERTAKEN_BY: Final = {Kind.SENT: (Kind.DELIVERED, Kind.READ), Kind.DELIVERED: (Kind.READ,)}
_ARRAYS: Final = ("messages", "statuses", "errors")

# Looking a member up in its enumeration costs as much as half a field of an event.
_MESSAGE: Final = Kind.MESSAGE
_OTHER: Final = Kind.OTHER
_OF_MESSAGES: Final = InboundClass.MESSAGE
_OF_FAILURES: Final = InboundClass.FAILURE
_OF_RECEIPTS: Final = InboundClass.RECEIPT
CLOUD_OBJECT: Final = "whatsapp_business_account"

_DIGITS_MAX: Final = 4300
"""Python refuses longer integers (sys.set_int_max_str_digits), and so would most backends' parsers."""

_decode_envelope: Final = msgspec.json.Decoder(wire.Envelope).decode
_decode_value: Final = msgspec.json.Decoder(wire.Value).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class Event(msgspec.Struct, frozen=True, gc=False):
    """One message, status or error of a body."""

    kind: Kind
    cls: InboundClass
    key: str
    """What makes it the same event when it comes again; empty when it has no id."""
    lane: str
    """The contact, or the group, it belongs to; empty when the body names none."""
    place: Place
    is_group: bool = False
    """It is of a group: `lane` is the group's id. On-prem does not say so for each of its statuses."""
    message_id: str = ""
    """Of a status: WhatsApp's id of the message it is about."""
    participant: str = ""
    """Of a status: whose it is, in a group the member; empty when the body does not say."""


class Webhook(msgspec.Struct, gc=False):
    """What a body holds. No events: it is empty and there is nothing to do but to acknowledge it."""

    events: list[Event]
    is_recognised: bool


class Part(msgspec.Struct, gc=False):
    """What of a body goes to one destination."""

    cls: InboundClass
    """The highest class among its events."""
    lane: str
    events: list[Event]
    body: bytes


def decode(body: bytes) -> Webhook:
    """The events of a webhook body in either dialect, in the body's order.

    Bodies we don't recognise become one event of kind OTHER in the message class.
    Raises NotJsonError for what Python's own JSON parser refuses too.
    """
    try:
        # msgspec does not look into strings and numbers that it skips.
        body.decode()
        if len(body) > _DIGITS_MAX:
            _require_json(body)
        return _recognise(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    _require_json(body)
    try:
        # A lone surrogate in any text is JSON that strict parsers refuse: look at the body with another name for it.
        # Each has its own, or two ids would be one, and the second message a duplicate.
        return _recognise(json.dumps(json.loads(body), ensure_ascii=False).encode(errors="xmlcharrefreplace"))
    except (msgspec.DecodeError, RecursionError):
        return _unrecognised()


def _recognise(body: bytes) -> Webhook:
    """The events of a body; raises DecodeError when a field has another type than we know."""
    events = _events(_decode_envelope(body), body)
    return _unrecognised() if events is None else Webhook(events, is_recognised=True)


def split(body: bytes, fresh: list[Event], total: int) -> list[Part]:
    """The parts of `body` for each destination with only its `fresh` events, `total` being all it holds.

    Messages go to one destination, failures and receipts to another. One destination and nothing left
    out: the body travels byte for byte. Else each part keeps all fields it does not own.
    """
    try:
        return _parts(body, fresh, total)
    except (msgspec.DecodeError, RecursionError):
        # JSON that only a lenient parser takes, or nested as deep as a parser goes: it is not taken apart, and
        # goes whole, by its highest class.
        return [Part(min(event.cls for event in fresh), fresh[0].lane, fresh, body)]


def _parts(body: bytes, fresh: list[Event], total: int) -> list[Part]:
    if total == 1 and fresh:
        return [Part(fresh[0].cls, fresh[0].lane, fresh, body)]
    messages = [event for event in fresh if event.cls is InboundClass.MESSAGE]
    statuses = [event for event in fresh if event.cls is not InboundClass.MESSAGE]
    parts = []
    for events in (messages, statuses):
        if events:
            part_body = body if len(events) == total else _select(body, {event.place for event in events})
            cls = min(event.cls for event in events)
            parts.append(Part(cls, events[0].lane, events, part_body))
    return parts


def _require_json(body: bytes) -> None:
    try:
        # Strict UTF-8 first: json.loads would guess UTF-16 and UTF-32 and skip a BOM.
        json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise NotJsonError(f"the body is not JSON: {error}") from None


def _unrecognised() -> Webhook:
    return Webhook([Event(Kind.OTHER, InboundClass.MESSAGE, "", "", WHOLE_BODY)], is_recognised=False)


def _events(envelope: wire.Envelope, body: bytes) -> list[Event] | None:
    """All events of a body; None for one whose shape we don't know."""
    onprem = _value_events(envelope, 0, 0)
    if envelope.entry:
        if onprem or envelope.object != CLOUD_OBJECT:
            return None
        return _cloud_events(envelope.entry)
    if onprem:
        return onprem
    # Nothing to act on. Empty arrays are an empty callback; any other content is something new.
    contents = (value for key, value in _decode_object(body).items() if key != "object")
    return [] if all(not msgspec.json.decode(value) for value in contents) else None


def _cloud_events(entries: list[wire.Entry]) -> list[Event]:
    found: list[Event] = []
    for entry_at, entry in enumerate(entries):
        for change_at, change in enumerate(entry.changes or ()):
            events: list[Event] = []
            if change.field == "messages" and bytes(change.value):
                events = _value_events(_decode_value(change.value), entry_at, change_at)
            found += events or [Event(_OTHER, _OF_MESSAGES, "", "", (entry_at, change_at, "", 0))]
    return found


def _value_events(value: wire.Value, entry_at: int, change_at: int) -> list[Event]:
    events: list[Event] = []
    if value.messages:
        for at, message in enumerate(value.messages):
            group, message_id = message.group_id, message.id
            lane = group or message.sender or message.from_user_id or ""
            key = "m" + message_id if message_id else ""
            place = (entry_at, change_at, "messages", at)
            events.append(Event(_MESSAGE, _OF_MESSAGES, key, lane, place, group is not None))
    if value.statuses:
        for at, status in enumerate(value.statuses):
            events.append(_status_event(status, (entry_at, change_at, "statuses", at)))
    if value.errors:
        places = [(entry_at, change_at, "errors", at) for at in range(len(value.errors))]
        events += [Event(Kind.ERROR, _OF_FAILURES, "", "", place) for place in places]
    return events


def _status_event(status: wire.Status, place: Place) -> Event:
    status_id, name = status.id or "", status.status or ""
    kind = _STATUS_KINDS.get(name, _OTHER)
    nested = status.message.recipient_id if status.message else None
    recipient = status.recipient_id or nested or ""
    participant = status.recipient_participant_id or status.recipient_participant_user_id or ""
    key = ""
    if status_id:
        # Lengths keep the fields apart, whatever is in them; the status is last, so that others are made from it.
        key = (
            f"s{len(status_id)},{len(recipient)},{len(participant)}:{status_id}{recipient}{participant}{name}"
        )
    group = status.group_id
    return Event(
        kind,
        _OF_RECEIPTS if kind in _RECEIPTS else _OF_FAILURES,
        key,
        group or recipient,
        place,
        bool(participant) or group is not None or status.recipient_type == "group",
        status_id,
        participant or recipient,
    )


def overtaking_keys(event: Event) -> list[tuple[Kind, str]]:
    """Kinds and keys of the receipts that say more than this one, of the same message and participant.

    `sent` < `delivered` < `read`: once a higher one has come, a lower one tells nothing (Cloud itself leaves out
    `delivered` where `read` comes at the same time).
    """
    if not event.key or event.kind not in _OVERTAKEN_BY:
        return []
    base = event.key[: -len(event.kind.label)]
    return [(kind, base + kind.label) for kind in _OVERTAKEN_BY[event.kind]]


def _select(body: bytes, wanted: set[Place]) -> bytes:
    """`body` with only the wanted events; items and unknown fields keep their bytes."""
    top = _decode_object(body)
    entries_raw = _items(top, "entry")
    if not entries_raw:
        _select_items(top, 0, 0, wanted)
        return _encode(top)
    entries = []
    for entry_at, entry_raw in enumerate(entries_raw):
        entry = _decode_object(entry_raw)
        changes = []
        for change_at, change_raw in enumerate(_items(entry, "changes")):
            if (entry_at, change_at, "", 0) in wanted:
                changes.append(change_raw)
            elif any(place[:2] == (entry_at, change_at) for place in wanted):
                change = _decode_object(change_raw)
                value = _decode_object(change["value"])
                _select_items(value, entry_at, change_at, wanted)
                change["value"] = msgspec.Raw(_encode(value))
                changes.append(msgspec.Raw(_encode(change)))
        if changes:
            entry["changes"] = msgspec.Raw(_encode(changes))
            entries.append(entry)
    top["entry"] = msgspec.Raw(_encode(entries))
    return _encode(top)


def _select_items(value: dict[str, msgspec.Raw], entry_at: int, change_at: int, wanted: set[Place]) -> None:
    for array in _ARRAYS:
        items = _items(value, array)
        kept = [item for at, item in enumerate(items) if (entry_at, change_at, array, at) in wanted]
        if kept:
            value[array] = msgspec.Raw(_encode(kept))
        elif items:
            del value[array]


def _items(value: dict[str, msgspec.Raw], array: str) -> list[msgspec.Raw]:
    """The items of an array that may be null or missing."""
    raw = value.get(array)
    return [] if raw is None or bytes(raw) == b"null" else _decode_array(raw)
