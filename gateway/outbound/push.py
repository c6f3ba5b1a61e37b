"""`POST /v1/messages`: one send, stored and answered 202, or with the node's own answer where that is waited for."""

import asyncio
from collections.abc import Mapping

import msgspec

from gateway.clock import Clock
from gateway.dialects.dialect import Dialect
from gateway.errors import StoreError
from gateway.outbound.accept import Accepted, Acceptor
from gateway.outbound.answers import PushAnswer, Refusals, Refused
from gateway.outbound.idempotency import Keys, digest_of
from gateway.outbound.node_answers import NodeAnswers
from gateway.outbound.options import Options, read_options
from gateway.store.protocol import Store

_decode_accepted = msgspec.json.Decoder(Accepted).decode


class Pushes:
    """Takes sends one by one from senders who are authorised."""

    def __init__(
        self,
        acceptor: Acceptor,
        keys: Keys,
        node_answers: NodeAnswers,
        store: Store,
        dialect: Dialect,
        clock: Clock,
        refusals: Refusals,
        *,
        wait_ms: int = 0,
    ) -> None:
        """`wait_ms` is how long an answer waits for the node's where the request does not say."""
        self._acceptor = acceptor
        self._keys = keys
        self._node_answers = node_answers
        self._store = store
        self._dialect = dialect
        self._clock = clock
        self._refusals = refusals
        self._wait_ms = wait_ms

    async def accept(self, body: bytes, headers: Mapping[str, str]) -> PushAnswer:
        """Take a send request with what its headers ask for. Waits for the disk, and for the node if it is asked to."""
        options = read_options(headers, self._clock.wall_ms())
        if isinstance(options, str):
            return self._refusals.answer(self._refusals.invalid(options))
        try:
            accepted, is_new = await self._take(body, options)
            if isinstance(accepted, Refused):
                return self._refusals.answer(accepted)
            wait_s = self._wait_ms / 1000 if options.wait_s is None else options.wait_s
            answer = await self._wait(accepted, wait_s, is_new=is_new) if wait_s else None
        except StoreError as error:
            return self._refusals.answer(self._refusals.store(error))
        if answer is None:
            answer = PushAnswer(202, accepted.body(self._dialect))
        if options.wait_s is not None:
            answer.headers["Preference-Applied"] = f"wait={options.wait_s}"
        return answer

    async def _take(self, body: bytes, options: Options) -> tuple[Accepted | Refused, bool]:
        """What the sender is told, and whether the send is new."""
        if not options.key:
            return await self._store_new(body, options, b""), True
        digest = digest_of("message", body, options)
        async with self._keys.holding([options.key]) as used:
            first = used.get(options.key)
            if first is None:
                return await self._store_new(body, options, digest), True
            if first.digest != digest:
                return self._refusals.key_used(), False
            return _decode_accepted(first.answer), False

    async def _store_new(self, body: bytes, options: Options, digest: bytes) -> Accepted | Refused:
        admitted = self._acceptor.full() or self._acceptor.admit(body, options)
        if isinstance(admitted, Refused):
            return admitted
        accepted = admitted.accepted
        answer = msgspec.json.encode(accepted)
        keys = [self._keys.used(options.key, digest, answer)] if options.key else []
        return await self._acceptor.store([admitted.record], keys) or accepted

    async def _wait(self, accepted: Accepted, wait_s: float, *, is_new: bool) -> PushAnswer | None:
        """The node's answer; None when the send has not ended in time, or had ended before.

        A new send can't have ended: that takes another commit, which comes after we go on here.
        """
        future = self._node_answers.expect(accepted.seq)
        try:
            if not is_new:
                status = await self._store.find_send(accepted.id)
                if status is None or not status.is_waiting:
                    return None
            async with asyncio.timeout(wait_s):
                return await future
        except TimeoutError:
            return None
        finally:
            self._node_answers.leave(accepted.seq, future)
