"""The usual durable door on aiohttp: a webhook is put into a list of Redis, and then answered 200.

Redis syncs its file before it answers (`appendfsync always`). Arguments: its port, that of Redis.
"""

import sys
from collections.abc import AsyncIterator

import uvloop
from aiohttp import web
from redis.asyncio import Redis

STORE = web.AppKey("store", Redis)


async def handle(request: web.Request) -> web.Response:
    await request.app[STORE].rpush("queue", await request.read())
    return web.Response()


async def ready(_request: web.Request) -> web.Response:
    return web.Response()


async def store(app: web.Application) -> AsyncIterator[None]:
    async with Redis(port=int(sys.argv[2])) as made:
        app[STORE] = made
        yield


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(store)
    app.router.add_post("/webhook", handle)
    app.router.add_get("/readyz", ready)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main()
