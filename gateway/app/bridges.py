"""Where parts that don't know each other meet: forwarders and HTTP, instant replies and the send queue."""

import logging
from collections.abc import Mapping
from typing import Final

from gateway.dialects.dialect import Dialect, Push
from gateway.events import InboundRecord, SendClass
from gateway.http.client import HttpClient
from gateway.inbound.forward import BackendAnswer
from gateway.inbound.reply import read_replies
from gateway.outbound.accept import Acceptor
from gateway.outbound.options import Options
from gateway.store.protocol import Change

log = logging.getLogger(__name__)

_HEADERS: Final = {"Content-Type": "application/json"}


class HttpBackend:
    """A destination reached by HTTP POST."""

    def __init__(self, http: HttpClient, url: str) -> None:
        self._http = http
        self._url = url

    async def post(self, body: bytes, headers: Mapping[str, str]) -> BackendAnswer:
        response = await self._http.request("POST", self._url, body, {**_HEADERS, **headers})
        return BackendAnswer(
            response.status, response.body, response.headers.get("retry-after"), response.error
        )


class Nowhere:
    """The destination of what is switched off: whatever should still come here is done with."""

    async def post(self, _body: bytes, _headers: Mapping[str, str]) -> BackendAnswer:
        return BackendAnswer(204)


class InstantReplies:
    """Turns messages in a backend's answer into sends of the reply class, in the change that settles the message."""

    def __init__(self, acceptor: Acceptor, dialect: Dialect) -> None:
        self._acceptor = acceptor
        self._dialect = dialect
        self.taken = 0
        self.bad_answers = 0

    def add_replies(self, record: InboundRecord, answer: bytes, change: Change) -> None:
        found = read_replies(answer, record.body, record.lane, self._dialect)
        problem = found.problem
        if found.replies and not self._acceptor.takes_replies():
            problem = "as many replies as GATEWAY_SEND_QUEUE_MAX wait already"
        if problem:
            self.bad_answers += 1
            log.warning("instant reply not sent", extra={"problem": problem, "seq": record.seq})
        if not found.replies or problem != found.problem:
            return
        records = [
            self._acceptor.new_record(Push(reply.to, reply.is_group), reply.body, Options(SendClass.REPLY))
            for reply in found.replies
        ]
        self.taken += len(records)
        self._acceptor.add(change, records)
