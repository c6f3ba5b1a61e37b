"""The fields of webhook bodies that we act on; everything else is skipped and travels as bytes.

Any of these may be missing or null: never require an id, a sender or a recipient (the protocol
moved them more than once). A field of another type makes the body unrecognised, not refused.
"""

import msgspec


class Message(msgspec.Struct, gc=False):
    id: str | None = None
    sender: str | None = msgspec.field(name="from", default=None)
    from_user_id: str | None = None
    group_id: str | None = None


class StatusMessage(msgspec.Struct, gc=False):
    recipient_id: str | None = None


class Status(msgspec.Struct, gc=False):
    id: str | None = None
    status: str | None = None
    recipient_id: str | None = None
    recipient_type: str | None = None
    recipient_participant_id: str | None = None
    recipient_participant_user_id: str | None = None
    group_id: str | None = None
    message: StatusMessage | None = None
    """On-prem clients since 2023 put the recipient here."""


class Error(msgspec.Struct, gc=False):
    code: int | None = None


class Value(msgspec.Struct, gc=False):
    """The arrays of one on-prem callback, or of one Cloud change of the field `messages`."""

    messages: list[Message] | None = None
    statuses: list[Status] | None = None
    errors: list[Error] | None = None


class Change(msgspec.Struct, gc=False):
    field: str | None = None
    value: msgspec.Raw = msgspec.Raw()
    """Decoded only for the field `messages`; other fields have shapes of their own."""


class Entry(msgspec.Struct, gc=False):
    changes: list[Change] | None = None


class Envelope(Value, gc=False):
    """The top of a body in either dialect: on-prem has the arrays, Cloud has `object` and `entry`."""

    object: str | None = None
    entry: list[Entry] | None = None
