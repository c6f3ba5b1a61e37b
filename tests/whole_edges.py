"""What stands around a gateway in a run: its node, its backend, its disk and its alarm, in virtual time.

They take the place of sockets, of the store's thread and of the kernel's timer; all that is behind them is the real one,
SQLite's file too.
"""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

from virtual_time import virtual_loop
from whole_plan import BackendTrouble, NodeTrouble, Plan, is_in
from whole_story import Key, LifeStory, Post, Request, Story, read_post, tag_of

from gateway.clock import NS_PER_S, Clock
from gateway.errors import StoreError
from gateway.http.client import Response
from gateway.outbound.front import NEVER_NS
from gateway.store.sqlite_file import SqliteFile
from gateway.store.sqlite_store import SqliteStore
from gateway.store.sqlite_thread import BATCH_MAX, Asker, Read, StoreThread, Write


class VirtualThread(StoreThread):
    """The thread of a store, which is the loop: it works on what waits when its disk is ready."""

    def __init__(self, file: SqliteFile, asker: Asker, clock: Clock, world: "World") -> None:
        super().__init__(file, asker, clock, asyncio.get_running_loop())
        self._writer = None  # all is put into `queued`
        self._world = world
        self.queued: list[Write | Read] = []
        self._is_scheduled = False
        self.is_dead = False
        self._disk_failure: StoreError | None = None
        self.fails_next: bool | None = None
        """None: the next commit goes well; else it fails, and this says whether it is on disk all the same."""
        self.on_stored: Callable[[], None] = lambda: None

    def start(self) -> None:
        pass

    def put(self, job: Write | Read) -> None:
        if not self.is_dead:
            self.queued.append(job)
            self._schedule()

    def take_unstored(self) -> list[Write]:
        unstored = [job for job in self.queued if isinstance(job, Write)]
        self.queued = [job for job in self.queued if isinstance(job, Read)]
        return unstored

    def writes(self) -> list[bytes]:
        """What waits for the disk, encoded."""
        return [job.encoded for job in self.queued if isinstance(job, Write)]

    def _schedule(self) -> None:
        if self.queued and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_later(self._world.commit_s(), self._step)

    def _step(self) -> None:
        self._is_scheduled = False
        if not self.is_dead:
            self.work_off()
            self._schedule()

    def work_off(self) -> None:
        """What waits, with one commit."""
        if self.writes() and self.fails_next is not None and self._disk_failure is None:
            if self.fails_next:
                self.file.log(self.writes(), self._clock.wall_ms())
            self._disk_failure = StoreError("the disk failed")
        if self._disk_failure is not None:
            reads = [job for job in self.queued if isinstance(job, Read)]
            self._wake(self._asker.note_failed, reads, self._disk_failure)
            self.queued = [job for job in self.queued if isinstance(job, Write)]
            return
        jobs, self.queued = self.queued[:BATCH_MAX], self.queued[BATCH_MAX:]
        writes = [job for job in jobs if isinstance(job, Write)]
        if writes:
            self.store(writes)
        for job in jobs:
            if isinstance(job, Read):
                self.answer(job)

    def _wake(self, call: Callable[..., None], *args: Any) -> None:
        self._loop.call_soon(self._tell_alive, call, *args)

    def _tell_alive(self, call: Callable[..., None], *args: Any) -> None:
        if self.is_dead:
            return
        call(*args)
        if call == self._asker.note_stored:
            self.on_stored()

    def kill(self, *, is_written: bool) -> None:
        """The process is gone: what was put is on disk or not, and nobody is told."""
        writes = self.writes()
        if writes and is_written and self._disk_failure is None:
            self.file.log(writes, self._clock.wall_ms())
        self.is_dead = True
        self.file.close()

    async def close(self) -> None:
        if self.is_dead:
            return
        while self.queued and self._disk_failure is None:
            self.work_off()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.is_dead = True
        self.file.close()


class VirtualStore(SqliteStore):
    """The real store, with a thread that is none."""

    def __init__(
        self,
        world: "World",
        directory: Path,
        clock: Clock,
        on_failure: Callable[[StoreError], None],
        recent_ms: int,
    ) -> None:
        self._world = world
        super().__init__(directory, clock, on_failure, recent_ms=recent_ms)

    def _make_thread(self) -> VirtualThread:
        self.thread = VirtualThread(self._file, self, self._clock, self._world)
        return self.thread

    def kill(self, *, is_written: bool) -> None:
        """The process is gone."""
        self._hand_over()
        self.thread.kill(is_written=is_written)

    def let_go(self) -> None:
        """Close the file, if nobody has."""
        self.thread.is_dead = True
        self._file.close()


class VirtualRoom:
    """What the disk has left."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def free_bytes(self) -> int:
        return 0 if self._world.is_full() else 1 << 40


class VirtualAlarm:
    """The pacer's alarm."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    async def wait_until(self, deadline_ns: int) -> None:
        self._rung.clear()
        loop = virtual_loop()
        timer = None
        if deadline_ns < NEVER_NS:
            timer = loop.call_later(max(0, deadline_ns - loop.now_ns()) / NS_PER_S, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def ring(self) -> None:
        self._rung.set()

    def close(self) -> None:
        pass


class World(Protocol):
    """What the edges share."""

    plan: Plan
    story: Story

    def now_s(self) -> float:
        """Since the start."""

    def is_healed(self) -> bool:
        """Whether all troubles are over."""

    def commit_s(self) -> float:
        """How long a commit takes now."""

    def is_full(self) -> bool:
        """Whether the disk has no room now."""

    def offer(self, delay_s: float, keys: list[Key], group: str) -> None:
        """The node has a webhook with statuses for us, in a while."""

    def count_send(self) -> tuple[int, int, int]:
        """A send begins: counted events in the second that ends now, and sends among them, it included."""

    def plan_tps(self) -> int:
        """The plan as the gateway was told last."""

    def wall_max_ms(self) -> int:
        """The latest that the wall clock has ever been."""


class Node:
    """The WebApp, or the Graph API: it outlives all gateways."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._trouble: NodeTrouble = world.plan.node
        self._tries: dict[str, int] = {}
        self._names = 0

    def token(self) -> str:
        ended = sum(at_s <= self._world.now_s() for at_s in self._trouble.tokens_end_s)
        return f"token-{ended}"

    def behaviour(self, tag: str) -> tuple[random.Random, int]:
        """How it takes the n-th request with a message, and n."""
        number = self._tries[tag] = self._tries.get(tag, 0) + 1
        return random.Random(f"{self._world.plan.seed}/node/{tag}/{number}"), number

    def name(self) -> str:
        self._names += 1
        return f"wamid-{self._names}"


class Exchange:
    """A request that has begun."""

    def __init__(self, asked: Coroutine[Any, Any, Response], done: Callable[[Response], None]) -> None:
        self._task = asyncio.create_task(asked)
        self._done = done
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Response]) -> None:
        if not task.cancelled():
            self._done(task.result())

    def cancel(self) -> None:
        self._task.cancel()


class Endpoint:
    """One URL of an `Http`."""

    def __init__(self, http: "Http", method: str, url: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self._place = method, url
        self._headers = headers

    async def ask(self, body: bytes, headers: bytes) -> Response:
        return await self._http.request(*self._place, body, {**self._headers, **_read_head(headers)})

    def start(self, body: bytes, headers: bytes, done: Callable[[Response], None]) -> Exchange:
        return Exchange(self.ask(body, headers), done)


class Http:
    """In place of the HTTP client: `request` answers."""

    def endpoint(self, method: str, url: str, headers: Mapping[str, str]) -> Endpoint:
        return Endpoint(self, method, url, headers)

    async def request(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        raise NotImplementedError

    async def close(self) -> None:
        pass


def _read_head(lines: bytes) -> dict[str, str]:
    pairs = (line.partition(": ") for line in lines.decode().splitlines())
    return {name: value for name, _, value in pairs}


def _response(
    status: int | None, body: bytes = b"", retry_after: str = "", *, was_sent: bool = True
) -> Response:
    if status is None:
        return Response(None, {}, b"", "no answer", was_sent=was_sent)
    return Response(status, {"retry-after": retry_after} if retry_after else {}, body)


class NodeHttp(Http):
    """How one process reaches the node."""

    def __init__(self, world: World, node: Node, life: LifeStory, timeout_ms: int) -> None:
        self._world = world
        self._node = node
        self._life = life
        self._timeout_s = timeout_ms / 1000

    async def request(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        if self._life.ended_ns is not None:
            await asyncio.get_running_loop().create_future()
        path = url.removeprefix("http://node")
        if method == "POST" and path.endswith("/messages"):
            return await self._send(body, headers or {})
        trouble = self._node._trouble
        await asyncio.sleep(trouble.latency_s)
        if self._is_in(trouble.down_s):
            return _response(None, was_sent=False)
        if path.endswith("/login"):
            token = self._node.token()
            self._world.story.say(f"login: {token}")
            return _response(200, json.dumps({"users": [{"token": token}]}).encode())
        if path.startswith("/v1/groups/"):
            members = [f"1555030{number:04d}" for number in range(members_of(path.rpartition("/")[2]))]
            group = {"creator": "15550000", "participants": ["15550000", *members]}
            return _response(200, json.dumps({"groups": [group]}).encode())
        if path == "/v1/stats/app":
            return _response(200, b'{"stats":{"app":{"callback_queue_size":{"data":[{"value":0}]}}}}')
        return _response(200, b"{}")

    def _is_in(self, spans: tuple[tuple[float, float], ...]) -> bool:
        return not self._world.is_healed() and is_in(spans, self._world.now_s())

    async def _send(self, body: bytes, headers: Mapping[str, str]) -> Response:
        world, loop = self._world, virtual_loop()
        tag, to = tag_of(body), json.loads(body)["to"]
        window, sends, just_arrived = world.count_send()
        request = Request(
            tag, to, self._life.number, loop.now_ns(), loop.wall_ms(), world.wall_max_ms(), self._node.name(),
            window, sends, just_arrived, world.plan_tps(),
        )  # fmt: skip
        world.story.requests.append(request)
        is_group = json.loads(body).get("recipient_type") == "group"
        status, code, took_s, ended_s = self._fate(tag, headers)
        if took_s is not None:
            loop.call_later(took_s, self._take, request, is_group)
        world.story.say(f"send {tag} to {to}: {request.node_id}, will be {status} {code} in {ended_s:.3f} s")
        if status is None and took_s is None and ended_s == 0:
            request.was_sent = False
        await asyncio.sleep(ended_s)
        request.ended_ns, request.status, request.code = loop.now_ns(), status, code
        if status is None:
            return _response(None, was_sent=request.was_sent)
        return _response(status, self._body(request), self._retry_after(tag, status))

    def _fate(
        self, tag: str, headers: Mapping[str, str]
    ) -> tuple[int | None, int | None, float | None, float]:
        """Status and code of the answer, and in how many seconds the node takes it (None: never) and ends it."""
        trouble = self._node._trouble
        rng, _ = self._node.behaviour(tag)
        latency_s = trouble.latency_s * rng.uniform(0.5, 1.5)
        if random.Random(f"{self._world.plan.seed}/poison/{tag}").random() < trouble.poison_share:
            return 400, 131026 if self._world.plan.settings.dialect == "cloud" else 1013, None, latency_s
        if self._world.is_healed():
            return 200, None, latency_s / 2, latency_s
        if self._is_in(trouble.down_s):
            return None, None, None, 0
        is_onprem = self._world.plan.settings.dialect == "onprem"
        if is_onprem and headers.get("Authorization") != f"Bearer {self._node.token()}":
            return 401, 1005, None, latency_s
        if self._is_in(trouble.busy_s):
            return (*rng.choice(trouble.busy), None, latency_s)
        if rng.random() < trouble.slow_share:
            took_s = rng.choice([None, rng.uniform(0.0, self._timeout_s), self._timeout_s * 1.5])
            return None, None, took_s, self._timeout_s
        if rng.random() < trouble.error_share and trouble.errors:
            status, code = rng.choice(trouble.errors)
            is_open = code is None and status != 503
            took_s = latency_s / 2 if is_open and rng.random() < 0.5 else None
            return status, code, took_s, latency_s
        if latency_s >= self._timeout_s:
            return None, None, latency_s / 2, self._timeout_s
        return 200, None, latency_s / 2, latency_s

    def _retry_after(self, tag: str, status: int) -> str:
        is_told = status in (429, 503) and random.Random(f"{tag}/{self._world.plan.seed}").random() < 0.5
        return "3" if is_told else ""

    def _body(self, request: Request) -> bytes:
        if request.status == 200:
            return json.dumps({"messages": [{"id": request.node_id}]}).encode()
        if request.code is None:
            return b"<html>"
        error: dict[str, Any] = {"code": request.code, "title": "no", "message": "no"}
        is_cloud = self._world.plan.settings.dialect == "cloud"
        return json.dumps({"error": error} if is_cloud else {"errors": [error]}).encode()

    def _take(self, request: Request, is_group: bool) -> None:
        """WhatsApp has it now: phones will say so."""
        world = self._world
        request.took_ns = virtual_loop().now_ns()
        world.story.say(f"took {request.tag} as {request.node_id}")
        rng = random.Random(f"{world.plan.seed}/receipts/{request.tag}")
        phones = [request.to.lstrip("+")]
        if is_group:
            phones = [f"1555030{number:04d}" for number in range(members_of(request.to))]
        receipt_s = self._node._trouble.receipt_s
        for phone in phones:
            delivered_s = receipt_s * rng.lognormvariate(0, 0.8)
            if rng.random() < 0.9:
                world.offer(
                    delivered_s, [("delivered", request.node_id, phone)], request.to if is_group else ""
                )
            if rng.random() < 0.5:
                read_s = delivered_s + rng.choice([0.0, 0.1, 10.0])
                world.offer(read_s, [("read", request.node_id, phone)], request.to if is_group else "")


def members_of(group: str) -> int:
    """How many are in a group besides us."""
    return 3 + 4 * int(group[-1])


class BackendHttp(Http):
    """How one process reaches the backend, which outlives all of them."""

    def __init__(self, world: World, life: LifeStory, timeout_ms: int) -> None:
        self._world = world
        self._life = life
        self._timeout_s = timeout_ms / 1000

    async def request(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response:
        if self._life.ended_ns is not None:
            await asyncio.get_running_loop().create_future()
        world, loop = self._world, virtual_loop()
        destination = "message" if url.endswith("/messages") else "event"
        trouble = world.plan.messages if destination == "message" else world.plan.events
        keys, told, digests = read_post(body)
        number = len(world.story.posts)
        post = Post(number, destination, self._life.number, loop.now_ns(), keys, told, digests)
        world.story.posts.append(post)
        status = self._status(trouble, post)
        world.story.say(f"post {destination} {[key[:2] for key in keys]} {told}: will be {status}")
        await asyncio.sleep(self._timeout_s if status is None else trouble.latency_s)
        post.ended_ns, post.status = loop.now_ns(), status
        if status is None:
            return _response(None)
        return _response(status, self._answer(trouble, post) if status == 200 else b"no")

    def _status(self, trouble: BackendTrouble, post: Post) -> int | None:
        seed = self._world.plan.seed
        names = [str(key) for key in post.keys] + [one.send_id for one in post.told]
        if any(random.Random(f"{seed}/poison/{name}").random() < trouble.poison_share for name in names):
            return 400
        if self._world.is_healed():
            return 200
        now_s = self._world.now_s()
        if is_in(trouble.down_s, now_s):
            return None
        if is_in(trouble.gone_s, now_s):
            return 410
        rng = random.Random(f"{seed}/backend/{names}/{post.number}")
        return rng.choice(trouble.errors) if rng.random() < trouble.error_share else 200

    def _answer(self, trouble: BackendTrouble, post: Post) -> bytes:
        """Replies to some of the messages."""
        if post.destination != "message" or not post.keys or post.keys[0][0] != "message":
            return b""
        rng = random.Random(f"{self._world.plan.seed}/reply/{post.keys[0]}")
        if rng.random() >= trouble.reply_share:
            return b""
        to = post.keys[0][2]
        post.replies = [(f"r{post.number}.{number}", to) for number in range(rng.choice([1, 1, 2, 3]))]
        messages = [{"type": "text", "text": {"body": tag}} for tag, _ in post.replies]
        return json.dumps({"messages": messages}).encode()
