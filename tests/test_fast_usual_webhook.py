"""The native scanner says of a body what the complete decoder says, or nothing; and of usual bodies it does say it."""

import ctypes
import itertools
import json
import mmap
import random
from collections.abc import Iterator
from typing import Any, Final

import pytest
from builders import CONTACT, GROUP, cloud_body, message, onprem_body, status
from conftest import PAYLOADS
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway._fast import usual_webhook
from gateway._fast.seen import fingerprint, fingerprint_str
from gateway._fast.usual_webhook import usual
from gateway.dialects.webhook import Webhook, decode
from gateway.errors import NotJsonError
from gateway.events import InboundClass, Kind

SECRET: Final = bytes(range(16))
STATUSES: Final = ("sent", "delivered", "read", "played", "failed")
CLASSES: Final = {
    Kind.MESSAGE: InboundClass.MESSAGE,
    Kind.SENT: InboundClass.RECEIPT,
    Kind.DELIVERED: InboundClass.RECEIPT,
    Kind.READ: InboundClass.RECEIPT,
    Kind.FAILED: InboundClass.FAILURE,
}
"""The kinds it knows; their class follows from them, and so does the array of their place."""

BODIES: Final = {path.stem: path.read_bytes() for path in sorted(PAYLOADS.glob("[a-z]*.json"))}

LEFT: Final = {
    "malformed_deep_nesting_512": "it is nested deeper than the scanner goes",
    "malformed_duplicate_keys": "a field that we read is there twice",
    "malformed_lone_surrogate": "half of a surrogate pair, which strict parsers refuse",
    "malformed_wrong_types_mixed_dialects": "it has the members of both dialects",
}
"""Bodies of one event that we know, and that are left to the complete decoder all the same."""


def decoded(body: bytes) -> Webhook | None:
    try:
        return decode(body)
    except NotJsonError:
        return None


def is_strict_json(text: bytes) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


def is_taken(body: bytes) -> bool:
    """Whether the scanner says something of the body; then the decoder says the same."""
    found = usual(body)
    if found is None:
        return False
    webhook = decoded(body)
    assert webhook is not None, body
    assert webhook.is_recognised, body
    assert len(webhook.events) == 1, body
    [event] = webhook.events
    key = event.key.encode()
    assert found == (event.kind, key, event.lane, event.is_group, event.message_id, event.participant), body
    assert CLASSES[event.kind] == event.cls
    assert event.place == (0, 0, "statuses" if event.kind else "messages", 0)
    assert is_strict_json(body), body
    return True


def has_one_known_event(body: bytes) -> bool:
    webhook = decoded(body)
    if webhook is None or not webhook.is_recognised or len(webhook.events) != 1:
        return False
    return webhook.events[0].kind in CLASSES


SINGLE: Final = {name: body for name, body in BODIES.items() if has_one_known_event(body)}


def compact(body: bytes) -> bytes:
    return json.dumps(json.loads(body), separators=(",", ":")).encode()


@pytest.mark.parametrize("name", SINGLE)
def test_takes_every_ordinary_body(name: str) -> None:
    body = SINGLE[name]
    assert is_taken(body) == (name not in LEFT)
    if name not in LEFT:
        assert is_taken(compact(body))
        assert is_taken(json.dumps(json.loads(body), ensure_ascii=False).encode())


def test_knows_enough_ordinary_bodies_and_nothing_else() -> None:
    """What the names of the files say: whole families, but for those of several events or of none."""
    assert len(SINGLE) > 60
    assert LEFT.keys() <= SINGLE.keys()
    for name, body in BODIES.items():
        assert is_taken(body) == (name in SINGLE and name not in LEFT)


def test_a_fingerprint_of_its_key_is_that_of_the_event() -> None:
    found = usual(onprem_body(statuses=[status()]))
    assert found is not None
    key = decode(onprem_body(statuses=[status()])).events[0].key
    assert fingerprint(found[1], SECRET) == fingerprint_str(key, SECRET)


BUILT: Final = {
    "message": onprem_body([message()]),
    "message of a group": onprem_body([message(group_id=GROUP)]),
    "message of a group without a name": onprem_body([message(group_id="")]),
    "message of no group": onprem_body([message(group_id=None)]),
    "message of a user": onprem_body([{"id": "a", "from": None, "from_user_id": "US.1"}]),
    "message of nobody": onprem_body([{"id": "a"}]),
    "status of a group": onprem_body(statuses=[{**status(), "group_id": GROUP}]),
    "status of a member": onprem_body(statuses=[{**status(), "recipient_participant_id": CONTACT}]),
    "status of a user": onprem_body(statuses=[{**status(), "recipient_participant_user_id": "US.1"}]),
    "status of all": onprem_body(
        statuses=[
            {
                **status(recipient=GROUP),
                "recipient_type": "group",
                "recipient_participant_id": CONTACT,
                "recipient_participant_user_id": "US.1",
                "group_id": "g",
                "message": {"recipient_id": "1"},
            }
        ]
    ),
    "status with a nested recipient": onprem_body(
        statuses=[{"id": "a", "status": "read", "message": {"recipient_id": CONTACT, "x": {}}}]
    ),
    "status of nobody": onprem_body(statuses=[{"id": "a", "status": "read"}]),
    "Cloud message": cloud_body({"contacts": [], "messages": [message()]}, more={}),
    "Cloud status": cloud_body({"statuses": [{**status(), "recipient_type": "individual"}]}),
}


@pytest.mark.parametrize("name", BUILT)
def test_takes_each_field_that_the_decoder_reads(name: str) -> None:
    assert is_taken(BUILT[name])


@pytest.mark.parametrize(
    "body",
    [
        onprem_body([message(), message()]),
        onprem_body(statuses=[status(), status()]),
        onprem_body([message()], [status()]),
        onprem_body([message()], object="whatsapp_business_account"),
        onprem_body([message()], entry=[]),
        onprem_body([message()], errors=[{"code": 1}]),
        onprem_body([message(None)]),
        onprem_body([message("")]),
        onprem_body([message("é")]),
        onprem_body(statuses=[status(name="deleted")]),
        onprem_body(statuses=[status(name="")]),
        onprem_body(statuses=[status(status_id="")]),
        onprem_body(statuses=[{**status(), "message": None}]),
        b'{"messages":[{"id":"a"}],"statuses":[]}',
        b'{"statuses":[],"messages":[{"id":"a"}]}',
        b'{"messages":[{"id":"a"}],"errors":[]}',
        b'{"messages":[{"id":"a"}],"messages":[{"id":"a"}]}',
        b'{"messages":[{"id":"a","id":"b"}]}',
        b'{"messages":[{"id":"a","i\\u0064":"b"}]}',
        b'{"messages":[{"id":"a\\u0062"}]}',
        b'{"messages":[{"id":"a"}]}{}',
        b'{"messages":[{"id":"a"}]},',
        b'\xef\xbb\xbf{"messages":[{"id":"a"}]}',
        b'[{"messages":[{"id":"a"}]}]',
        cloud_body({"messages": [message()]}, {"messages": [message()]}),
        cloud_body({"messages": [message()]}, errors=None),
        cloud_body({"messages": [message()]}, messages=[]),
        cloud_body({"messages": [message()]}, messages=[{}]),
        cloud_body({"messages": [message()]}, statuses=[{}]),
        cloud_body({"messages": [message()], "statuses": [{}]}),
        onprem_body([message()], [{}]),
        cloud_body({"messages": [message()], "errors": None}),
        cloud_body({"messages": [message()]}, object="page"),
        cloud_body({}),
        cloud_body(),
        cloud_body(messages=[message()]),
        cloud_body({}, messages=[message()]),
        cloud_body({"messages": [message()]}).replace(b'"field": "messages"', b'"field": "message"'),
        cloud_body({"messages": [message()]}).replace(b'"field": "messages", ', b""),
        b'{"entry":[{"changes":[{"field":"messages","value":{"messages":[{"id":"a"}]}}]}]}',
        b'{"object":"whatsapp_business_account","messages":[{"id":"a"}]}',
    ],
)
def test_leaves_everything_else_to_the_decoder(body: bytes) -> None:
    assert usual(body) is None


def test_takes_fields_as_long_as_it_says_and_no_longer() -> None:
    for size in (1, 9, 10, 99, 100, 255):
        assert is_taken(onprem_body([message("i" * size, "f" * size)]))
        long = {"recipient_participant_id": "p" * size, "group_id": "g" * size}
        assert is_taken(onprem_body(statuses=[{**status("i" * size, recipient="r" * size), **long}]))
    assert usual(onprem_body([message("i" * 256)])) is None
    assert usual(onprem_body(statuses=[status(recipient="r" * 256)])) is None


# Each byte of each body: the grammar.

SPICE: Final = [*b'"\\{}[],:0-1.eEu \n\t\x00\x1f\x7f\x80\xbf\xc3\xe2\xf0\xff', *b"ntfmsidx"]


def byte_mutations(body: bytes, chance: random.Random) -> Iterator[bytes]:
    for at in range(len(body)):
        before, after = body[:at], body[at + 1 :]
        yield before
        yield before + after
        yield body[: at + 1] + body[at:]
        yield before + bytes([chance.choice(SPICE)]) + after
        yield before + bytes([body[at] ^ 1 << chance.randrange(8)]) + after
        yield before + bytes([chance.choice(SPICE)]) + body[at:]


def test_a_body_with_a_wrong_byte_is_taken_as_the_decoder_takes_it_or_not_at_all() -> None:
    chance = random.Random(1)
    bodies = [compact(body) for name, body in SINGLE.items() if name not in LEFT]
    taken = [
        is_taken(changed) for body in [*bodies, *BUILT.values()] for changed in byte_mutations(body, chance)
    ]
    # Most fall into texts, which may hold nearly anything.
    assert len(taken) > 100_000
    assert 0.2 < sum(taken) / len(taken) < 0.8


def test_bodies_that_it_leaves_are_left_or_taken_rightly_with_a_wrong_byte_too() -> None:
    chance = random.Random(2)
    bodies = [body for name, body in BODIES.items() if name not in SINGLE and len(body) < 2000]
    for body in bodies:
        for changed in itertools.islice(byte_mutations(body, chance), chance.randrange(6), None, 5):
            is_taken(changed)


def test_a_body_cut_short_is_not_read_past_its_end() -> None:
    """C callers have bodies in the midst of other bytes, which may be just those that are missing."""
    for body in BUILT.values():
        for size in range(len(body)):
            assert not C_SCAN(body, size, FOUND)
            assert usual(body[:size]) is None
        assert C_SCAN(body, len(body), FOUND)
        assert not C_SCAN(body + b"}", len(body) + 1, FOUND)


def test_not_a_byte_is_touched_after_the_end() -> None:
    """The page behind the body is taken away: what touches it ends the process, and faulthandler names this test."""
    pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    first = ctypes.c_char.from_buffer(pages)
    end = ctypes.addressof(first) + mmap.PAGESIZE
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(end, mmap.PAGESIZE, 0) == 0
    value = r'["a\n\ud83d\ude00", "éяあ😀", true, false, null, {"b": [-1.5e+3]}]'
    for body in (*BUILT.values(), skipping(value.encode())):
        for size in range(len(body) + 1):
            pages[mmap.PAGESIZE - size : mmap.PAGESIZE] = body[:size]
            assert bool(C_SCAN(end - size, size, FOUND)) == (size == len(body))
    assert protect(end, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE) == 0
    del first
    pages.close()


def _c_scan() -> Any:
    """`scan` as C callers have it."""
    capsule: Any = vars(usual_webhook)["__pyx_capi__"]["scan"]
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype = ctypes.c_void_p
    pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype = ctypes.c_char_p
    name_of.argtypes = [ctypes.py_object]
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_void_p)
    return function(pointer_of(capsule, name_of(capsule)))


C_SCAN: Final = _c_scan()
FOUND: Final = ctypes.create_string_buffer(1024)
"""More than a `Usual` takes."""


# Each value and each name of each body: the meaning. A body is a tree of texts here, so that a name may come twice.


class Node:
    """An object of names and nodes, an array of nodes (without names), or any other value's text."""

    def __init__(self, text: str = "", opening: str = "") -> None:
        self.text = text
        self.opening = opening
        self.inside: list[tuple[str, Node]] = []

    def __str__(self) -> str:
        if not self.opening:
            return self.text
        parts = (f"{name}:{node}" if name else str(node) for name, node in self.inside)
        return self.opening + ",".join(parts) + chr(ord(self.opening) + 2)

    def all(self) -> "Iterator[Node]":
        yield self
        for _name, node in self.inside:
            yield from node.all()


def tree(value: Any) -> Node:
    if isinstance(value, dict):
        node = Node(opening="{")
        node.inside = [(json.dumps(name), tree(inner)) for name, inner in value.items()]
    elif isinstance(value, list):
        node = Node(opening="[")
        node.inside = [("", tree(inner)) for inner in value]
    else:
        node = Node(json.dumps(value))
    return node


NAMES: Final = [
    *(
        "object",
        "entry",
        "changes",
        "field",
        "value",
        "messages",
        "statuses",
        "errors",
        "id",
        "from",
        "group_id",
    ),
    *(
        "from_user_id",
        "status",
        "recipient_id",
        "recipient_type",
        "recipient_participant_id",
        "message",
        "x",
        "",
    ),
    "recipient_participant_user_id",
]
VALUES: Final = [
    *(
        "null",
        "0",
        "-1.5e3",
        "true",
        "false",
        "[]",
        "{}",
        "[null]",
        "[{}]",
        "[[]]",
        '""',
        '"group"',
        '"sent"',
        '"a"',
    ),
    *(
        '"\\u0061"',
        '"\\/"',
        '"\\ud83d\\ude00"',
        '"\\ud83d"',
        '"é"',
        '{"id":"b"}',
        '[{"id":"b"}]',
        "01",
        "nul",
        "NaN",
    ),
    *(
        '[{"id":"b"},{"id":"c"}]',
        '"whatsapp_business_account"',
        '"messages"',
        "1e400",
        "[1,]",
        '{"a":1,}',
        "{1:1}",
    ),
]


def tree_mutations(whole: Node) -> Iterator[str]:
    for node in list(whole.all()):
        old = node.text, node.opening, node.inside
        for value in VALUES:
            node.text, node.opening, node.inside = value, "", []
            yield str(whole)
        node.text, node.opening, node.inside = old
        for at, (name, inner) in enumerate(node.inside):
            members = node.inside
            node.inside = members[:at] + members[at + 1 :]
            yield str(whole)
            node.inside = [*members, (name, inner)]
            yield str(whole)
            if name:
                escaped = f'"\\u{ord(name[1]):04x}{name[2:]}'
                for other in [escaped, *map(json.dumps, NAMES)]:
                    node.inside = [*members[:at], (other, inner), *members[at + 1 :]]
                    yield str(whole)
                for value in ("null", "[]", '"b"', str(inner)):
                    node.inside = [*members, (escaped, Node(value))]
                    yield str(whole)
                    node.inside = [(name, Node(value)), *members]
                    yield str(whole)
            node.inside = members
        if node.opening == "{":
            for name, value in itertools.product(NAMES, ("null", "[]", '"b"', '[{"id":"b"}]')):
                node.inside = [*old[2], (json.dumps(name), Node(value))]
                yield str(whole)
            node.inside = old[2]


def test_a_body_with_a_wrong_value_or_name_is_taken_as_the_decoder_takes_it_or_not_at_all() -> None:
    names = ("cloud_text", "cloud_group_status_bsuid", "onprem_text", "onprem_status_nested_recipient")
    trees = [tree(json.loads(body)) for body in (*(BODIES[name] for name in names), *BUILT.values())]
    taken = [is_taken(text.encode()) for whole in trees for text in tree_mutations(whole)]
    assert len(taken) > 10_000
    assert 0.1 < sum(taken) / len(taken) < 0.9


# What it skips: exactly JSON.


def skipping(text: bytes) -> bytes:
    return b'{"messages":[{"id":"a","x":%s}]}' % text


TOKENS: Final = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b" ",
        b"\n",
        b'"',
        b'"a"',
        b'"b":',
        b"0",
        b"1",
        b"-",
        b".",
        b"e",
        b"E",
    ),
    *(
        b"+",
        b"12",
        b"1.5",
        b"1e5",
        b"true",
        b"false",
        b"null",
        b"NaN",
        b"tru",
        b"\\",
        b"\\n",
        b"\\u00e9",
        b"\\u00e",
    ),
    *(b'"\\"', b"\xc3\xa9", b"\xc3", b"\x01", b"\t", b"[]", b"{}", b"[1]", b'{"a":1}'),
]


@settings(max_examples=500, deadline=None)
@given(text=st.lists(st.sampled_from(TOKENS), min_size=1, max_size=7).map(b"".join))
def test_skips_json_and_nothing_else(text: bytes) -> None:
    assert is_taken(skipping(text)) == is_strict_json(skipping(text))


@pytest.mark.parametrize("length", range(1, 5))
def test_skips_exactly_the_numbers(length: int) -> None:
    for characters in itertools.product(b"01-+.e", repeat=length):
        text = bytes(characters)
        assert (usual(skipping(text)) is not None) == is_strict_json(text), text


def test_skips_exactly_the_escapes() -> None:
    for letter in range(256):
        text = b'"\\' + bytes([letter]) + b'"'
        assert (usual(skipping(text)) is not None) == is_strict_json(text), text
        for digits in (b"%c000", b"0%c00", b"00%c0", b"000%c"):
            text = b'"\\u' + digits % letter + b'"'
            is_half = text[3:5].lower() in (b"d8", b"dc")
            assert (usual(skipping(text)) is not None) == (is_strict_json(text) and not is_half), text


@pytest.mark.parametrize("before", ["", "\\ud800", "\\udbff", "\\udc00", "\\ud7ff", "a"])
@pytest.mark.parametrize(
    "after", ["", "\\ud800", "\\udc00", "\\udfff", "\\ue000", "a", "\\n", "\\udc0", "udc00"]
)
def test_skips_whole_surrogate_pairs_only(before: str, after: str) -> None:
    text = f'"{before}{after}"'.encode()
    try:
        is_whole = json.loads(text).encode() is not None
    except ValueError:
        is_whole = False
    assert is_taken(skipping(text)) == is_whole


def test_sees_every_byte_at_every_place_of_a_text() -> None:
    """Eight bytes are looked at at once."""
    for size, byte in itertools.product((1, 7, 8, 9, 16, 17, 23), range(256)):
        for at in range(size):
            text = b'"' + b"a" * at + bytes([byte]) + b"b" * (size - at - 1) + b'"'
            is_plain = 0x20 <= byte < 0x80 and byte not in b'"\\'
            is_escape = byte == ord("\\") and at < size - 1
            assert (usual(skipping(text)) is not None) == (is_plain or is_escape)
            assert (usual(b'{"messages":[{"id":%s}]}' % text) is not None) == is_plain


def test_takes_strict_utf8_only() -> None:
    def is_utf8(text: bytes) -> bool:
        try:
            return bool(text.decode())
        except UnicodeDecodeError:
            return False

    for lead, second in itertools.product(range(0x80, 0x100), range(0x100)):
        if second in b'"\\' or second < 0x20:
            second = 0xC0  # noqa: PLW2901
        for rest in (b"", b"\x80", b"\xbf\x80", b"\x80\x7f", b"\x80\xc0", b"\x7f"):
            text = bytes([lead, second]) + rest
            assert (usual(skipping(b'"' + text + b'"')) is not None) == is_utf8(text), text


def test_takes_no_more_levels_and_no_longer_numbers_than_it_says() -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        assert is_taken(skipping(opening * 64 + b"1" + closing * 64))
        assert usual(skipping(opening * 65 + b"1" + closing * 65)) is None
    mixed = b'[{"a":' * 32
    assert is_taken(skipping(mixed + b"1" + b"}]" * 32))
    assert usual(skipping(mixed + b"1" + b"]}" * 32)) is None
    assert is_taken(skipping(b"1" * 300))
    assert usual(skipping(b"1" * 301)) is None
    assert is_taken(skipping(b'"' + b"a" * 5000 + b'"'))


# Anything of a usual shape is usual, whatever else is in it.

PLAIN: Final = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), max_size=30
)
MAYBE: Final = st.none() | PLAIN
SPACE: Final = st.text(" \t\r\n", max_size=2)
ANY_TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ANY_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
OTHERS: Final = st.dictionaries(
    st.sampled_from(["contacts", "meta", "timestamp", "text", "type", "ids", "Id", "fro"]),
    ANY_JSON,
    max_size=3,
)
MESSAGE: Final = st.fixed_dictionaries(
    {"id": PLAIN.filter(bool)}, optional={"from": MAYBE, "group_id": MAYBE, "from_user_id": MAYBE}
)
STATUS: Final = st.fixed_dictionaries(
    {"id": PLAIN.filter(bool), "status": st.sampled_from(STATUSES)},
    optional={
        "recipient_id": MAYBE,
        "recipient_type": MAYBE | st.just("group"),
        "recipient_participant_id": MAYBE,
        "recipient_participant_user_id": MAYBE,
        "group_id": MAYBE,
        "message": st.fixed_dictionaries({}, optional={"recipient_id": MAYBE, "x": ANY_JSON}),
    },
)


@st.composite
def usual_bodies(draw: st.DrawFn) -> bytes:
    """In either dialect, with any other members, in any order, with space or without."""

    def with_others(members: dict[str, Any]) -> dict[str, Any]:
        return dict(draw(st.permutations(list({**draw(OTHERS), **members}.items()))))

    array, item = draw(st.tuples(st.just("messages"), MESSAGE) | st.tuples(st.just("statuses"), STATUS))
    body = with_others({array: [with_others(item)]})
    if draw(st.booleans()):
        change = with_others({"field": "messages", "value": body})
        entry = with_others({"changes": [change]})
        body = with_others({"object": "whatsapp_business_account", "entry": [entry]})
    comma, colon = (draw(SPACE) + mark + draw(SPACE) for mark in ",:")
    text = json.dumps(
        body,
        ensure_ascii=draw(st.booleans()),
        separators=(comma, colon),
        indent=draw(st.sampled_from([None, "\t"])),
    )
    return (draw(SPACE) + text + draw(SPACE)).encode()


@settings(max_examples=150, deadline=None)
@given(body=usual_bodies())
def test_takes_all_that_is_usual(body: bytes) -> None:
    assert is_taken(body)
