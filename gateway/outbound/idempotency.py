"""Idempotency keys: a request that comes again with its key is answered as the first time, and nothing is stored twice.

A key is on disk by the change that stores its sends. In memory are those whose request is being served; another one with
the same key waits for it. A refused request leaves no key. The scope is the push API, single sends and batches alike.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Collection

import msgspec

from gateway.clock import Clock
from gateway.outbound.options import Options
from gateway.store.protocol import Store, StoredKey


class Keys:
    """The keys that were used within an age."""

    def __init__(self, store: Store, age_ms: int, clock: Clock) -> None:
        self._store = store
        self._age_ms = age_ms
        self._clock = clock
        self._held: dict[str, asyncio.Future[None]] = {}

    @contextlib.asynccontextmanager
    async def holding(self, keys: Collection[str]) -> AsyncIterator[dict[str, StoredKey]]:
        """Those of `keys` that were used before; inside, nobody else serves a request with one of them.

        Waits until all are free and takes them at once, so that no two wait for each other.
        Raises StoreError when the disk fails.
        """
        while busy := [self._held[key] for key in keys if key in self._held]:
            await asyncio.wait(busy)
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held |= dict.fromkeys(keys, released)
        try:
            oldest_ms = self._clock.wall_ms() - self._age_ms
            found = await self._store.find_keys(list(keys)) if keys else []
            yield {used.key: used for used in found if used.at_ms > oldest_ms}
        finally:
            for key in keys:
                del self._held[key]
            released.set_result(None)

    def used(self, key: str, digest: bytes, answer: bytes) -> StoredKey:
        """What is stored of a key that is used now."""
        return StoredKey(key, digest, answer, self._clock.wall_ms())

    def held(self) -> int:
        """Keys whose request is being served."""
        return len(self._held)


def digest_of(what: str, body: bytes, options: Options) -> bytes:
    """Of a request: what it asks for, its body, and its options but for how long it waits for the answer."""
    lasting = msgspec.structs.replace(options, wait_s=None)
    head = msgspec.json.encode([what, lasting])
    return hashlib.blake2b(head + b"\n" + body, digest_size=16).digest()
