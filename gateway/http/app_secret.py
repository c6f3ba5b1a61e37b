"""Meta's signature of a webhook: HMAC-SHA256 of its body under the app secret."""

import hmac
from typing import Final

SIGNATURE_HEADER: Final = "X-Hub-Signature-256"
SIGNATURE_WRONG: Final = f"{SIGNATURE_HEADER} does not match\n"


def is_signed(secret: bytes, body: bytes, given: bytes) -> bool:
    """Whether `given`, the header's value, is that of `body`. Takes the same time wherever they differ.

    The body must be the bytes as they came: Meta signs an escaped form that re-encoding would not give back.
    """
    expected = f"sha256={hmac.digest(secret, body, 'sha256').hex()}"
    return hmac.compare_digest(expected.encode(), given)
