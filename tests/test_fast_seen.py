"""The seen-set remembers exactly its last fingerprints, and the fingerprint is SipHash-2-4."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model.seen import SeenModel

from gateway._fast.seen import SeenSet, fingerprint, fingerprint_str

SECRET = bytes(range(16))

# The first sixteen results for the key 00..0f and the messages empty, 00, 00 01, ... from `vectors.h` of the
# reference implementation, as little-endian bytes; the one of 15 bytes is Appendix A of the paper.
REFERENCE_VECTORS = [
    "310e0edd47db6f72",
    "fd67dc93c539f874",
    "5a4fa9d909806c0d",
    "2d7efbd796666785",
    "b7877127e09427cf",
    "8da699cd64557618",
    "cee3fe586e46c9cb",
    "37d1018bf50002ab",
    "6224939a79f5f593",
    "b0e4a90bdf82009e",
    "f3b9dd94c5bb5d7a",
    "a7ad6b22462fb3f4",
    "fbe50e86bc8f1e75",
    "903d84c02756ea14",
    "eef27a8e90ca23f7",
    "e545be4961ca29a1",
]


def pack(*fingerprints: int) -> bytes:
    return struct.pack(f"<{len(fingerprints)}Q", *fingerprints)


def test_the_example_of_the_paper() -> None:
    assert fingerprint(bytes(range(15)), SECRET) == 0xA129CA6149BE45E5


@pytest.mark.parametrize("size", range(len(REFERENCE_VECTORS)))
def test_the_published_vectors(size: int) -> None:
    assert fingerprint(bytes(range(size)), SECRET) == int.from_bytes(
        bytes.fromhex(REFERENCE_VECTORS[size]), "little"
    )


def rotate_left(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & (2**64 - 1)


def siphash24(data: bytes, secret: bytes) -> int:
    """SipHash as the paper writes it."""
    k0, k1 = (int.from_bytes(half, "little") for half in (secret[:8], secret[8:]))
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) % 256])
    for word, rounds in [*((word, 2) for (word,) in struct.iter_unpack("<Q", padded)), (None, 4)]:
        if word is None:
            v2 ^= 0xFF
        else:
            v3 ^= word
        for _ in range(rounds):
            v0, v2 = (v0 + v1) % 2**64, (v2 + v3) % 2**64
            v1, v3 = rotate_left(v1, 13) ^ v0, rotate_left(v3, 16) ^ v2
            v0 = rotate_left(v0, 32)
            v2, v0 = (v2 + v1) % 2**64, (v0 + v3) % 2**64
            v1, v3 = rotate_left(v1, 17) ^ v2, rotate_left(v3, 21) ^ v0
            v2 = rotate_left(v2, 32)
        if word is not None:
            v0 ^= word
    return v0 ^ v1 ^ v2 ^ v3


@given(key=st.binary(max_size=600), secret=st.binary(min_size=16, max_size=16))
@settings(max_examples=100, deadline=None)
def test_agrees_with_the_paper_on_any_key(key: bytes, secret: bytes) -> None:
    assert fingerprint(key, secret) == siphash24(key, secret)


@given(key=st.text())
@settings(max_examples=100, deadline=None)
def test_a_str_is_hashed_as_its_utf8(key: str) -> None:
    assert fingerprint_str(key, SECRET) == fingerprint(key.encode(), SECRET)


def test_another_secret_gives_another_fingerprint() -> None:
    assert fingerprint(b"wamid.1", SECRET) != fingerprint(b"wamid.1", bytes(16))


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_secret_has_sixteen_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=rf"secret is {size} bytes, must be 16"):
        fingerprint(b"a", bytes(size))
    with pytest.raises(ValueError, match=rf"secret is {size} bytes, must be 16"):
        fingerprint_str("a", bytes(size))


def test_a_lone_surrogate_has_no_fingerprint() -> None:
    with pytest.raises(UnicodeEncodeError):
        fingerprint_str("\ud800", SECRET)


def test_what_was_added_is_seen() -> None:
    seen = SeenSet(10)
    assert 5 not in seen
    assert seen.add(5)
    assert 5 in seen
    assert not seen.add(5)
    assert len(seen) == 1


def test_the_oldest_leaves_first() -> None:
    seen = SeenSet(3)
    for n in (1, 2, 3):
        seen.add(n)
    assert seen.add(4)
    assert [n in seen for n in (1, 2, 3, 4)] == [False, True, True, True]
    assert len(seen) == 3


def test_seeing_again_does_not_make_younger() -> None:
    seen = SeenSet(2)
    seen.add(1)
    seen.add(2)
    assert not seen.add(1)
    seen.add(3)
    assert 1 not in seen


@pytest.mark.parametrize("value", [0, 1, 2**63, 2**64 - 1])
def test_every_64_bit_value_is_a_fingerprint(value: int) -> None:
    seen = SeenSet(1)
    assert value not in seen
    assert seen.add(value)
    assert value in seen
    assert not seen.add(value)
    assert seen.add(7)
    assert value not in seen
    assert seen.add(value)
    assert seen.discard(value)
    assert value not in seen


def test_what_is_taken_back_is_new_again() -> None:
    seen = SeenSet(3)
    for n in (1, 2, 3):
        seen.add(n)
    assert seen.discard(2)
    assert not seen.discard(2)
    assert seen.add(2)
    assert seen.add(4)
    assert [n in seen for n in (1, 2, 3, 4)] == [False, True, True, True]


def test_packed_fingerprints_load_oldest_first() -> None:
    seen = SeenSet(3)
    assert seen.add_packed(pack(1, 2, 2, 3, 4)) == 4
    assert [n in seen for n in (1, 2, 3, 4)] == [False, True, True, True]
    assert seen.add_packed(b"") == 0
    assert seen.add_packed(pack(0x0102030405060708)) == 1
    assert 0x0102030405060708 in seen


def test_a_torn_pack_is_refused_whole() -> None:
    seen = SeenSet(3)
    with pytest.raises(ValueError, match="data is 9 bytes, must be a multiple of 8"):
        seen.add_packed(pack(1) + b"x")
    assert len(seen) == 0


def test_stays_exact_through_many_generations() -> None:
    """A table that aged would lose entries, or find ones that left, well before the fiftieth turnover."""
    capacity, turns = 1000, 50
    keys = [fingerprint(b"%d" % n, SECRET) for n in range(capacity * turns)]
    seen = SeenSet(capacity)
    assert seen.add_packed(pack(*keys)) == len(keys)
    assert all(key in seen for key in keys[-capacity:])
    assert not any(key in seen for key in keys[:-capacity])
    assert len(seen) == seen.capacity == capacity


@pytest.mark.parametrize("capacity", [0, -1, 2**26 + 1])
def test_the_door_refuses_what_is_out_of_range(capacity: int) -> None:
    with pytest.raises(ValueError, match=rf"capacity is {capacity}, must be 1\.\.67108864"):
        SeenSet(capacity)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_refuses_what_is_no_64_bit_value(value: int) -> None:
    seen = SeenSet(1)
    with pytest.raises(OverflowError):
        seen.add(value)
    with pytest.raises(OverflowError):
        seen.discard(value)
    with pytest.raises(OverflowError):
        _ = value in seen


def test_none_is_refused_not_followed() -> None:
    seen = SeenSet(1)
    with pytest.raises(TypeError):
        seen.add(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        seen.add_packed(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _ = None in seen  # type: ignore[operator]
    with pytest.raises(TypeError):
        fingerprint(None, SECRET)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        fingerprint(b"a", None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        fingerprint_str(None, SECRET)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SeenSet(None)  # type: ignore[arg-type]


# Few home slots, at both ends of the table, so that runs collide, merge and wrap around.
CROWDED = sorted({(base + 64 * n) % 2**64 for base in (-2, -1, 0, 1) for n in range(6)})


class SeenBesideModel(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 12))
    def make(self, capacity: int) -> None:
        self.native = SeenSet(capacity)
        self.model = SeenModel(capacity)

    @rule(value=st.sampled_from(CROWDED))
    def add(self, value: int) -> None:
        assert self.native.add(value) is self.model.add(value)

    @rule(values=st.lists(st.sampled_from(CROWDED), max_size=8))
    def add_packed(self, values: list[int]) -> None:
        data = pack(*values)
        assert self.native.add_packed(data) == self.model.add_packed(data)

    @rule(value=st.sampled_from(CROWDED))
    def discard(self, value: int) -> None:
        assert self.native.discard(value) is self.model.discard(value)

    @invariant()
    def members_agree(self) -> None:
        assert len(self.native) == len(self.model)
        for value in CROWDED:
            assert (value in self.native) is (value in self.model)


TestSeenBesideModel = SeenBesideModel.TestCase
TestSeenBesideModel.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
