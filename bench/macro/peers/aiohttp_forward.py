"""The usual forwarder on aiohttp and uvloop, without a store: it answers what the backend answers, once that has.

One `ClientSession` for all, which keeps its connections. Arguments: its port, the backend's URL.
"""

import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

SESSION = web.AppKey("session", aiohttp.ClientSession)


async def handle(request: web.Request) -> web.Response:
    body = await request.read()
    headers = {"Content-Type": request.content_type}
    async with request.app[SESSION].post(sys.argv[2], data=body, headers=headers) as answer:
        await answer.read()
        return web.Response(status=answer.status)


async def ready(_request: web.Request) -> web.Response:
    return web.Response()


async def session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as made:
        app[SESSION] = made
        yield


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_post("/webhook", handle)
    app.router.add_get("/readyz", ready)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
