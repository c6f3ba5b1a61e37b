"""The usual durable door on FastAPI and uvicorn: a webhook is put into a list of Redis, and then answered 200.

Redis syncs its file before it answers (`appendfsync always`). Arguments: its port, that of Redis.
"""

import sys

import uvicorn
from fastapi import FastAPI, Request, Response
from redis.asyncio import Redis

app = FastAPI()
store = Redis(port=int(sys.argv[2]))


@app.post("/webhook")
@app.post("/v1/messages")
async def handle(request: Request) -> Response:
    await store.rpush("queue", await request.body())
    return Response()


@app.get("/readyz")
async def ready() -> Response:
    return Response()


def main() -> None:
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
