"""Names to addresses, looked up off the loop and at most once per TTL."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.clock import NS_PER_S, Clock

TTL_NS: Final = 60 * NS_PER_S
"""How long addresses are used: the system's own answer has no TTL. A backend that moves is found after it, or at once
when none of the known addresses can be connected to (`forget`)."""

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""Addresses of a host in order of preference. Raises OSError."""


async def system_lookup(host: str, port: int) -> list[str]:
    """As the system's resolver has it, in a thread."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A link-local IPv6 address is nothing without its zone, the fourth part.
    addresses = [
        f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else str(address[0])
        for *_, address in found
    ]
    return list(dict.fromkeys(addresses))


class Resolver:
    """A small cache: the hosts are those of our settings."""

    def __init__(self, clock: Clock, lookup: Lookup = system_lookup) -> None:
        self._clock = clock
        self._lookup = lookup
        self._known: dict[tuple[str, int], tuple[int, list[str]]] = {}
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """Of `host`, never none. Those who ask while one looks up wait for its answer.

        Raises OSError when there is no address. A failure is not remembered.
        """
        if _is_address(host):
            return [host]
        key = host, port
        async with self._locks.setdefault(key, asyncio.Lock()):
            until_ns, addresses = self._known.get(key, (0, []))
            if self._clock.now_ns() >= until_ns:
                addresses = await self._lookup(host, port)
                if not addresses:
                    raise OSError(f"{host} has no address")
                self._known[key] = self._clock.now_ns() + TTL_NS, addresses
            return addresses

    def forget(self, host: str, port: int) -> None:
        """Look `host` up again next time."""
        self._known.pop((host, port), None)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
