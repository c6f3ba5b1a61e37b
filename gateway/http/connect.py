"""From an origin to a transport: addresses in their order, TLS, unix sockets."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol, TypeVar

from gateway.http.resolve import Resolver
from gateway.http.target import Origin

P = TypeVar("P", bound=asyncio.Protocol)


class Connector(Protocol):
    """How connections are made. Handed in, so that tests need no network."""

    async def connect(self, origin: Origin, factory: Callable[[], P], timeout_s: float) -> P:
        """A protocol of `factory`, connected, TLS and all. Raises OSError, TimeoutError among them, or ValueError."""


class NetworkConnector:
    """Over TCP or a unix socket of this machine."""

    def __init__(self, tls: ssl.SSLContext, resolver: Resolver) -> None:
        self._tls = tls
        self._resolver = resolver

    async def connect(self, origin: Origin, factory: Callable[[], P], timeout_s: float) -> P:
        """One address after the other, each with an equal share of the time that is left.

        Raises OSError when none can be connected to; looking the name up is part of it, and so is TLS.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout_s
        async with asyncio.timeout_at(ends_at):
            if origin.unix_path:
                _, protocol = await loop.create_unix_connection(factory, origin.unix_path)
                return protocol
            addresses = await self._resolver.addresses(origin.host, origin.port)
        failure: OSError = OSError("no address")
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            now = loop.time()
            try:
                async with asyncio.timeout_at(now + (ends_at - now) / left):
                    return await self._connect_to(origin, address, factory)
            except OSError as error:
                failure = error
        self._resolver.forget(origin.host, origin.port)
        raise failure

    async def _connect_to(self, origin: Origin, address: str, factory: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        if origin.has_tls:
            # The certificate must be for the name that was asked for, not for the address it has.
            name = origin.host.partition("%")[0]
            _, protocol = await loop.create_connection(
                factory, address, origin.port, ssl=self._tls, server_hostname=name
            )
        else:
            _, protocol = await loop.create_connection(factory, address, origin.port)
        return protocol
