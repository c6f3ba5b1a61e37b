"""The text of a variable to a value and back: durations, sizes, addresses, URLs.

Each `parse_x` raises ValueError, with a text only where there is more to say than what was expected
(`forms.py` says that). Each `show_x` gives the shortest text that parses to the same value.
"""

import base64
import ipaddress
import re
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

DURATION_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SIGNING_KEY_BYTES: Final = (24, 64)
"""As the specification of Standard Webhooks says."""
SIZE_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

# Twelve digits are 30 years in ms and a terabyte in bytes; more is a mistake, whatever the unit.
_QUANTITY: Final = re.compile(r"([0-9]{1,12})\s?([A-Za-z]*)")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9-]{1,63})*")


class Address(msgspec.Struct, frozen=True):
    """A host (name, IPv4 or IPv6 without brackets) and a port; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError
    return int(text)


def parse_duration_ms(text: str) -> int:
    return _parse_quantity(text, DURATION_MS)


def show_duration(duration_ms: int) -> str:
    if duration_ms == 0:
        return "0s"
    # One day is a span of hours to most of us (24h), a week one of days.
    units = DURATION_MS if duration_ms >= 2 * DURATION_MS["d"] else {**DURATION_MS, "d": duration_ms + 1}
    return _show_quantity(duration_ms, units)


def parse_size_bytes(text: str) -> int:
    return _parse_quantity(text, SIZE_BYTES)


def show_size(size_bytes: int) -> str:
    return _show_quantity(size_bytes, SIZE_BYTES)


def parse_percent(text: str) -> int:
    number, sign, rest = text.partition("%")
    if not sign:
        raise ValueError("the % is missing")
    if rest:
        raise ValueError
    return parse_count(number.strip())


def parse_bool(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError
    return text == "true"


def show_bool(is_true: bool) -> str:
    return "true" if is_true else "false"


def parse_signing_key(text: str) -> bytes:
    """The bytes of a key as Standard Webhooks writes it."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ValueError("is no base64") from None
    if not SIGNING_KEY_BYTES[0] <= len(key) <= SIGNING_KEY_BYTES[1]:
        raise ValueError(f"has {len(key)} bytes")
    return key


def parse_list(text: str) -> list[str]:
    """Items between commas or line ends (a secret's file has one a line); empty ones are skipped."""
    return [item for part in re.split(r"[,\n]", text) if (item := part.strip())]


def parse_address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise ValueError("the port must be from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
    if not host:
        raise ValueError("the host is missing; 0.0.0.0 or [::] listens on every interface")
    if ":" in host:
        raise ValueError("an IPv6 address goes in brackets, as in [::1]:9080")
    if not _HOST_NAME.fullmatch(host):
        raise ValueError
    return Address(host, int(port))


def parse_url(text: str) -> str:
    """A URL as we request it: no user and no fragment. http, https, or http+unix with a socket's path for its host."""
    if re.search(r"[\s\x00-\x1f\x7f]", text) or not text.isascii():
        raise ValueError("a URL has no spaces, control or non-ASCII characters")
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https", "http+unix"} or not parts.hostname:
        raise ValueError
    if "@" in parts.netloc:
        raise ValueError("a user or password does not belong in a URL, where logs show it")
    path = unquote(parts.netloc)
    if parts.scheme == "http+unix" and not (path.startswith("/") and path.isprintable()):
        raise ValueError(
            "a socket's path is absolute, with %2F for its slashes: http+unix://%2Frun%2Fx.sock/webhook"
        )
    if parts.fragment:
        raise ValueError("the part after # is never sent")
    if parts.port == 0:  # reading `port` raises ValueError when it is out of range
        raise ValueError("the port must be from 1 to 65535")
    return text


OFF: Final = "off"


def parse_url_or_off(text: str) -> str:
    """As `parse_url`, or the word `off`."""
    return text if text == OFF else parse_url(text)


def hide_userinfo(text: str) -> str:
    """`text` without what stands between `//` and `@`, should it be a URL with a password."""
    return re.sub(r"//[^/@]*@", "//***@", text)


def _parse_quantity(text: str, units: dict[str, int]) -> int:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError
    number, unit = match.groups()
    if not unit:
        raise ValueError(f"the unit is missing ({', '.join(units)})")
    if unit not in units:
        raise ValueError(f"unknown unit {unit!r} (known: {', '.join(units)})")
    return int(number) * units[unit]


def _show_quantity(amount: int, units: dict[str, int]) -> str:
    unit, factor = max(
        ((unit, factor) for unit, factor in units.items() if amount % factor == 0),
        key=lambda item: item[1],
    )
    return f"{amount // factor}{unit}"
