"""Signatures as Standard Webhooks has them, checked by a receiver written for this test from its specification."""

import base64
import hashlib

import pytest
from builders import by_name
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigError, load
from gateway.config.values import parse_signing_key
from gateway.inbound.signature import Signer

PUBLISHED_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUBLISHED_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"


def hmac_sha256(key: bytes, text: bytes) -> bytes:
    """RFC 2104, by hand: what is tested uses the library's."""
    block = 64
    key = (hashlib.sha256(key).digest() if len(key) > block else key).ljust(block, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + text).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()


def accepts(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a receiver with this secret takes the request."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    expected = hmac_sha256(key, signed)
    for signature in headers["webhook-signature"].split(" "):
        version, _, text = signature.partition(",")
        if version == "v1" and base64.b64decode(text) == expected:
            return True
    return False


def signer(*secrets: str) -> Signer:
    return Signer(lambda seq: f"gw-1-{seq}", [parse_signing_key(secret) for secret in secrets])


def secret(size: int, fill: int = 7) -> str:
    return base64.b64encode(bytes([fill]) * size).decode()


def test_signs_the_published_example_as_published() -> None:
    """From the tests of the reference libraries."""
    lines = Signer(lambda _: PUBLISHED_ID, [parse_signing_key(PUBLISHED_KEY)]).headers(
        [1], b'{"test": 2432232314}', 1_614_265_330_999
    )
    assert by_name(lines) == {
        "webhook-id": PUBLISHED_ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(
    key=st.binary(min_size=24, max_size=64),
    body=st.binary(max_size=300),
    seq=st.integers(1, 2**48),
    wall_ms=st.integers(0, 2**42),
)
def test_a_receiver_accepts_what_we_sign_and_nothing_that_was_changed(
    key: bytes, body: bytes, seq: int, wall_ms: int
) -> None:
    text = base64.b64encode(key).decode()
    headers = by_name(signer(f"whsec_{text}").headers([seq], body, wall_ms))
    assert accepts(text, headers, body)
    assert not accepts(text, headers, body + b" ")
    assert not accepts(text, {**headers, "webhook-id": "gw-1-0"}, body)
    assert not accepts(text, {**headers, "webhook-timestamp": str(wall_ms // 1000 + 1)}, body)
    assert not accepts(secret(24, 8), headers, body)


def test_while_a_key_is_replaced_receivers_of_either_accept() -> None:
    old, new = secret(24, 1), secret(64, 2)
    headers = by_name(signer(old, new).headers([1], b"{}", 0))
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert accepts(old, headers, b"{}")
    assert accepts(new, headers, b"{}")
    assert not accepts(secret(24, 3), headers, b"{}")


def test_without_a_key_it_is_named_and_not_signed() -> None:
    assert by_name(signer().headers([5], b"{}", 1_500)) == {"webhook-id": "gw-1-5", "webhook-timestamp": "1"}


def test_several_records_are_named_by_all_of_them() -> None:
    """Receipts that failed together may go in other company: that is another request, and must not count as the same."""

    def name(*seqs: int) -> str:
        return by_name(signer().headers(seqs, b"{}", 0))["webhook-id"]

    assert name(1, 2, 3) == name(1, 2, 3)
    assert len({name(1), name(1, 2), name(1, 2, 3), name(1, 3), name(1, 23), name(12, 3)}) == 6
    assert all(len(name(1, 2).split(part)) == 1 for part in " .,")


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_key_has_24_to_64_bytes(size: int) -> None:
    for prefix in ("", "whsec_"):
        (key,) = load({"GATEWAY_WEBHOOK_SECRET": prefix + secret(size)}).webhook_secret
        assert parse_signing_key(key.reveal()) == b"\7" * size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (secret(23), "key 1 has 23 bytes"),
        (secret(65), "key 1 has 65 bytes"),
        (f"{secret(24)},whsec_{secret(23)}", "key 2 has 23 bytes"),
        ("whsec_" + "!" * 32, "key 1 is no base64"),
        (f"{secret(24)},{secret(25)},{secret(26)}", "there are 3"),
    ],
)
def test_another_key_is_refused_without_showing_it(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"GATEWAY_WEBHOOK_SECRET": text})
    (problem,) = caught.value.problems
    assert problem.startswith(f"GATEWAY_WEBHOOK_SECRET=***: {said}; expected one or two keys")
    assert text not in problem


def test_two_keys_may_stand_in_a_file_one_a_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("secrets") / "webhook"
    file.write_text(f"whsec_{secret(24, 1)}\nwhsec_{secret(24, 2)}\n")
    found = load({"GATEWAY_WEBHOOK_SECRET_FILE": str(file)}).webhook_secret
    assert [parse_signing_key(key.reveal()) for key in found] == [b"\1" * 24, b"\2" * 24]
