"""What a plain gateway does: everything in one FIFO queue, in order, each webhook a request of its own.

Two of them. `ack-first` queues in memory, answers 200 and lets its workers forward; a request that fails goes back to
the head of the queue after a second. `forward-first` has no queue: it forwards, and answers what the backend answers.
Neither keeps anything on disk, which makes them faster than they could be.
"""

import argparse
import asyncio
from collections import deque
from typing import Final

import aiohttp
import uvloop
from aiohttp import web

RETRY_S: Final = 1.0
TIMEOUT_S: Final = 10.0
"""As GATEWAY_BACKEND_TIMEOUT by default."""


class Fifo:
    """The queue and its workers."""

    def __init__(self, url: str, workers: int, *, acks_first: bool) -> None:
        self._url = url
        self._workers = workers
        self._acks_first = acks_first
        self._queue: deque[bytes] = deque()
        self._filled = asyncio.Condition()
        self._under_way = 0

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/webhook", self._take)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/waiting", self._waiting)
        app.cleanup_ctx.append(self._run)
        return app

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _waiting(self, _request: web.Request) -> web.Response:
        return web.Response(text=str(len(self._queue) + self._under_way))

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not self._acks_first:
            return web.Response(status=200 if await self._forward(body) else 503)
        self._queue.append(body)
        async with self._filled:
            self._filled.notify()
        return web.Response()

    async def _run(self, _app: web.Application):  # type: ignore[no-untyped-def]  # noqa: ANN202  (a generator)
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            workers = [asyncio.ensure_future(self._work()) for _ in range(self._workers * self._acks_first)]
            yield
            for worker in workers:
                worker.cancel()

    async def _work(self) -> None:
        while True:
            async with self._filled:
                await self._filled.wait_for(lambda: bool(self._queue))
                body = self._queue.popleft()
                self._under_way += 1
            if not await self._forward(body):
                await asyncio.sleep(RETRY_S)
                self._queue.appendleft(body)
            self._under_way -= 1

    async def _forward(self, body: bytes) -> bool:
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(self._url, data=body, headers=headers) as answer:
                await answer.read()
                return answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            return False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("port", type=int)
    parser.add_argument("url", help="the backend's webhook")
    parser.add_argument("workers", type=int, help="requests under way at most, where it acks first")
    parser.add_argument("mode", choices=("ack-first", "forward-first"))
    options = parser.parse_args()
    fifo = Fifo(options.url, options.workers, acks_first=options.mode == "ack-first")
    web.run_app(
        fifo.application(),
        host="127.0.0.1",
        port=options.port,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
