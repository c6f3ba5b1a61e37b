"""Many receipt bodies to one of the same wire shape, and to the digest. Pure.

A batch has the shape the dialect itself uses for several statuses: on-prem one `statuses` array, Cloud one change
for all statuses whose entry, change and value are the same but for them (so a consumer that reads only the first
entry sees as many as possible), and a further entry for each other. Items and unknown fields keep their bytes.
A body with anything else in it does not go into a batch.
"""

from typing import Final, TypeAlias

import msgspec
import orjson

from gateway.dialects.webhook import CLOUD_OBJECT, Place

_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode

Frame: TypeAlias = tuple[bytes, bytes, bytes]
"""What stands around an array of Cloud statuses: entry, change and value without it, as JSON."""

_Found: TypeAlias = list[tuple[Frame, list[msgspec.Raw]]]

_ONPREM: Final[Frame] = (b"", b"", b"")


class Batch:
    """One body in the making."""

    def __init__(self) -> None:
        self._statuses: dict[Frame, list[msgspec.Raw]] = {}
        self.size_bytes = 0
        """Of the statuses in it; what stands around them comes on top."""

    def add(self, body: bytes, wanted: set[Place] | None = None) -> bool:
        """Put in the statuses of `body`, or only those at the places `wanted`; False, and nothing done, if it is alone.

        Alone is a body of another shape, or of the other dialect than what is in the batch.
        """
        try:
            found = _find(body, wanted)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if found is None:
            return False
        is_onprem = found[0][0] == _ONPREM if found else None
        if self._statuses and is_onprem is not None and is_onprem != (_ONPREM in self._statuses):
            return False
        for frame, statuses in found:
            self._statuses.setdefault(frame, []).extend(statuses)
            self.size_bytes += sum(len(bytes(status)) for status in statuses)
        return True

    def __len__(self) -> int:
        """Statuses in it."""
        return sum(map(len, self._statuses.values()))

    def body(self) -> bytes:
        """The body with all of them; there must be one."""
        assert self._statuses, "a batch of nothing"
        if _ONPREM in self._statuses:
            return _encode({"statuses": self._statuses[_ONPREM]})
        entries = []
        for (entry_json, change_json, value_json), statuses in self._statuses.items():
            value = _decode_object(value_json)
            value["statuses"] = msgspec.Raw(_encode(statuses))
            change = _decode_object(change_json)
            change["value"] = msgspec.Raw(_encode(value))
            entry = _decode_object(entry_json)
            entry["changes"] = msgspec.Raw(_encode([change]))
            entries.append(entry)
        return _encode({"object": CLOUD_OBJECT, "entry": entries})


def _find(body: bytes, wanted: set[Place] | None) -> _Found | None:
    """The statuses of a body by what stands around them; None where it has anything else."""
    body.decode()  # msgspec does not look into strings that it skips
    top = _decode_object(body)
    if set(top) == {"statuses"}:
        return [(_ONPREM, _chosen(top["statuses"], 0, 0, wanted))]
    if set(top) != {"object", "entry"}:
        return None
    found: _Found = []
    for entry_at, entry_raw in enumerate(_decode_array(top["entry"])):
        entry = _decode_object(entry_raw)
        changes = _decode_array(entry.pop("changes", msgspec.Raw(b"[]")))
        for change_at, change_raw in enumerate(changes):
            change = _decode_object(change_raw)
            value = _decode_object(change.pop("value", msgspec.Raw(b"{}")))
            if "statuses" not in value or "messages" in value or "errors" in value:
                return None
            statuses = _chosen(value.pop("statuses"), entry_at, change_at, wanted)
            if statuses:
                found.append(((_encode(entry), _encode(change), _encode(value)), statuses))
    return found


def _chosen(
    statuses: msgspec.Raw, entry_at: int, change_at: int, wanted: set[Place] | None
) -> list[msgspec.Raw]:
    items = _decode_array(statuses)
    if wanted is None:
        return items
    return [item for at, item in enumerate(items) if (entry_at, change_at, "statuses", at) in wanted]


class Tally(msgspec.Struct):
    """Receipts of one message, as counts of its participants."""

    group: str | None = None
    """None: a single chat's, which a policy has digested."""
    delivered: int = 0
    read: int = 0
    first_s: int | None = None
    last_s: int | None = None


def digest_body(tallies: dict[str, Tally]) -> bytes:
    """A body of ours that tells of receipts by their number; `tallies` by WhatsApp's message id.

    `{"gateway": {"receipts": [{"id", "group_id", "delivered", "read", "first", "last"}]}}`: counts are totals since the
    message was sent, so what comes twice or late does no harm; times are strings of UTC seconds, as in a status.
    """
    receipts = [
        {
            "id": message_id,
            "group_id": tally.group,
            "delivered": tally.delivered,
            "read": tally.read,
            "first": None if tally.first_s is None else str(tally.first_s),
            "last": None if tally.last_s is None else str(tally.last_s),
        }
        for message_id, tally in tallies.items()
    ]
    return orjson.dumps({"gateway": {"receipts": receipts}})
