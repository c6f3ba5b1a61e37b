"""What the pacing knows survives a restart: the plan over the seam, bulk's pause, the ceiling, pair slots."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from builders import WALL_MS, Disk, FakeAlarm, MemoryStore, send, send_backlog, settled
from harness import running_gateway
from hypothesis import given, settings
from hypothesis import strategies as st
from process import GatewayProcess

from gateway.budget.ceiling import DECREASE, EPISODE_NS, INCREASE_EVERY_NS, LOWEST_SHARE, Ceiling
from gateway.budget.pairs import PairLimit
from gateway.budget.tps import WINDOW_NS, TpsBudget
from gateway.clock import NS_PER_MS, NS_PER_S, FakeClock
from gateway.events import SendClass, TpsKind
from gateway.outbound.pace import PAUSE_BULK_MS, Pacer
from gateway.outbound.pacing_memory import CEILING_AGE_MAX_MS, PAUSE_STEP_MS, PacingMemory

HOUR_MS = 3_600_000
INTERVAL_NS = 6 * NS_PER_S
TOKEN = "a-token-of-the-tests"
POLL_S = 0.01


# -- the plan over the seam, in simulated time


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 10, 80, 1000]),
    st.lists(st.integers(1, 3 * NS_PER_S), min_size=1, max_size=4),
    st.integers(0, 2),
)
def test_no_second_over_a_crash_holds_more_than_the_plan(
    tps: int, lives_ns: list[int], arrivals: int
) -> None:
    """Killed and back in no time, again and again, with work waiting and events coming in at each grant."""
    now_ns = NS_PER_S
    events: list[tuple[int, bool]] = []
    for life_ns in (*lives_ns, 3 * NS_PER_S):
        budget = TpsBudget(tps, dict.fromkeys(TpsKind, 1), 0, now_ns)
        end_ns = now_ns + life_ns
        while now_ns < end_ns:
            free_at_ns = budget.try_send(now_ns)
            if free_at_ns == now_ns:
                events.append((now_ns, True))
                for _ in range(arrivals):
                    budget.charge(TpsKind.DELIVERED, 1, now_ns + 1)
                    events.append((now_ns + 1, False))
                now_ns += 2
            else:
                now_ns = min(free_at_ns, end_ns)
    assert any(is_send for _, is_send in events)
    first = 0
    for last, (at_ns, is_send) in enumerate(events):
        while events[first][0] <= at_ns - WINDOW_NS:
            first += 1
        if is_send:
            assert last - first + 1 <= tps


# -- notes


class Machine:
    """A disk, and processes that run on it one after the other, each with a monotonic clock of its own."""

    store: MemoryStore

    def __init__(self) -> None:
        self.disk = Disk()
        self.starts = 0
        self.boot()

    def boot(self, wall_ms: int = WALL_MS, recent_ms: int = 0) -> None:
        """The process that runs now is killed, what it had submitted is on disk; the next one starts."""
        if self.starts:
            self.store.commit()
        self.starts += 1
        self.clock = FakeClock(now_ns=self.starts * 1_000 * NS_PER_S, wall_ms=wall_ms)
        self.store = MemoryStore(self.clock, self.disk, holds_commits=True, recent_ms=recent_ms)
        self.memory = PacingMemory(self.store.recovered, self.store, self.clock)
        self.ceiling = Ceiling(self.memory.ceiling_share())
        self.ceiling.on_kept = self.memory.keep_ceiling
        self.queue = send_backlog(self.store, self.clock)
        self.pacer = Pacer(
            self.queue,
            TpsBudget(1000, dict.fromkeys(TpsKind, 1), 0, 0, ceiling=self.ceiling),
            FakeAlarm(self.clock),
            self.clock,
            bulk_paused_until_ns=self.memory.bulk_paused_until_ns(),
        )
        self.pacer.on_bulk_paused = self.memory.keep_bulk_pause

    @property
    def wall_ms(self) -> int:
        return self.clock.wall_ms()

    def notes_waiting(self) -> int:
        """Notes submitted and not yet on disk."""
        return sum(len(change.notes) for change in self.store._submitted)


async def test_a_pause_of_bulk_goes_on_after_a_crash_to_its_own_end() -> None:
    machine = Machine()
    machine.pacer.pause_bulk()
    machine.clock.advance_ns(HOUR_MS * NS_PER_MS)
    machine.boot(machine.wall_ms + 10 * HOUR_MS)
    assert machine.pacer.bulk_paused_ms() == PAUSE_BULK_MS - 11 * HOUR_MS
    machine.queue.push(send(1, SendClass.BULK))
    machine.queue.push(send(2, SendClass.NORMAL))
    granted = await machine.pacer.next()
    assert granted is not None
    assert granted.seq == 2
    machine.boot(machine.wall_ms + 5 * HOUR_MS)
    assert machine.pacer.bulk_paused_ms() == PAUSE_BULK_MS - 16 * HOUR_MS
    machine.boot(WALL_MS + PAUSE_BULK_MS)
    machine.queue.push(send(1, SendClass.BULK))
    granted = await machine.pacer.next()
    assert granted is not None
    assert granted.seq == 1


async def test_without_a_pause_nothing_is_paused_and_nothing_is_written() -> None:
    machine = Machine()
    machine.boot(machine.wall_ms + HOUR_MS)
    assert machine.pacer.bulk_paused_ms() == 0
    assert machine.notes_waiting() == 0


@pytest.mark.parametrize("step_ms", [-1, -HOUR_MS, -1000 * PAUSE_BULK_MS, HOUR_MS, 1000 * PAUSE_BULK_MS])
async def test_a_clock_that_was_set_makes_no_pause_longer_than_it_was(step_ms: int) -> None:
    machine = Machine()
    machine.pacer.pause_bulk()
    machine.boot(machine.wall_ms + step_ms)
    assert machine.pacer.bulk_paused_ms() == min(PAUSE_BULK_MS, max(0, PAUSE_BULK_MS - step_ms))


async def test_after_a_clock_was_set_back_a_pause_does_not_begin_anew_with_each_start() -> None:
    machine = Machine()
    machine.pacer.pause_bulk()
    machine.boot(machine.wall_ms - 1000 * PAUSE_BULK_MS)
    for hours in range(1, 4):
        machine.boot(machine.wall_ms + HOUR_MS)
        assert machine.pacer.bulk_paused_ms() == PAUSE_BULK_MS - hours * HOUR_MS


async def test_a_pause_that_each_refusal_prolongs_is_not_written_each_time() -> None:
    """Sends of the other classes go on and may be refused for the same reason, each of them."""
    machine = Machine()
    refusals = 600
    for _ in range(refusals):
        machine.pacer.pause_bulk()
        machine.clock.advance_ns(NS_PER_S)
    assert machine.notes_waiting() == refusals * 1000 // PAUSE_STEP_MS
    left_ms = machine.pacer.bulk_paused_ms()
    machine.boot(machine.wall_ms)
    assert left_ms - PAUSE_STEP_MS <= machine.pacer.bulk_paused_ms() <= left_ms


async def test_a_lowered_ceiling_is_started_with_and_a_whole_one_too() -> None:
    machine = Machine()
    for _ in range(2):
        assert machine.ceiling.lower(machine.clock.now_ns())
        machine.clock.advance_ns(EPISODE_NS)
    machine.boot(machine.wall_ms + CEILING_AGE_MAX_MS // 2)
    assert machine.ceiling.share == pytest.approx(DECREASE**2)
    while machine.ceiling.share < 1.0:
        machine.clock.advance_ns(INCREASE_EVERY_NS)
        assert machine.ceiling.raise_(machine.clock.now_ns())
    machine.boot(machine.wall_ms)
    assert machine.ceiling.share == 1.0


async def test_the_first_grants_after_a_start_keep_the_ceiling() -> None:
    clock = FakeClock()
    budget = TpsBudget(
        100, dict.fromkeys(TpsKind, 1), 0, clock.now_ns(), send_floor_percent=50, ceiling=Ceiling(0.1)
    )
    granted, now_ns, end_ns = 0, clock.now_ns(), clock.now_ns() + WINDOW_NS + 10 * NS_PER_S
    while now_ns < end_ns:
        free_at_ns = budget.try_send(now_ns)
        granted += free_at_ns == now_ns
        now_ns = max(free_at_ns, now_ns + 1)
    assert 99 <= granted <= 102


@pytest.mark.parametrize("step_ms", [CEILING_AGE_MAX_MS + 1, -CEILING_AGE_MAX_MS - 1])
async def test_a_ceiling_of_another_time_is_forgotten(step_ms: int) -> None:
    machine = Machine()
    machine.ceiling.lower(machine.clock.now_ns())
    machine.boot(machine.wall_ms + step_ms)
    assert machine.ceiling.share == 1.0


async def test_sends_that_just_go_write_no_note() -> None:
    """Nor do the steps up: one note for the fall, one for being whole again."""
    machine = Machine()
    machine.pacer.succeeded()
    assert machine.notes_waiting() == 0
    machine.ceiling.lower(machine.clock.now_ns())
    for _ in range(1_000):
        machine.clock.advance_ns(INCREASE_EVERY_NS // 10)
        machine.pacer.succeeded()
    assert machine.ceiling.share == 1.0
    assert machine.notes_waiting() == 2


def test_a_kept_share_stays_a_share() -> None:
    assert [Ceiling(share).share for share in (-1, 0, 0.5, 7)] == [LOWEST_SHARE, LOWEST_SHARE, 0.5, 1]


async def test_a_note_that_can_not_be_read_is_none(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.disk.notes = {"bulk pause": b"{}", "ceiling": b"\xff"}
    machine.boot()
    assert (machine.pacer.bulk_paused_ms(), machine.ceiling.share) == (0, 1.0)
    assert caplog.text.count("a note of the pacing can't be read") == 2


async def test_a_failed_store_is_not_told_of_again(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.pacer.pause_bulk()
    machine.store.fail()
    machine.pacer.pause_bulk()
    machine.clock.advance_ns(PAUSE_STEP_MS * NS_PER_MS)
    machine.pacer.pause_bulk()
    await asyncio.sleep(0)
    del machine
    assert caplog.text == ""


# -- pair slots


def conforms(slots: list[int], burst: int, interval_ns: int) -> bool:
    """Whether each closed span of length t holds at most burst + t / interval."""
    slots = sorted(slots)
    return all(
        last - first + 1 <= burst + Fraction(slots[last] - slots[first], interval_ns)
        for first in range(len(slots))
        for last in range(first, len(slots))
    )


def history(slots: list[int], window_ns: int, now_ns: int) -> tuple[int, int]:
    """What the store tells of one recipient: sends in the window, and the age of the last."""
    recent = [at_ns for at_ns in slots if now_ns - window_ns <= at_ns <= now_ns]
    return len(recent), now_ns - max(recent, default=now_ns)


@settings(max_examples=400)
@given(
    burst=st.integers(1, 4),
    before=st.lists(st.integers(0, 3 * INTERVAL_NS), max_size=14),
    pause_ns=st.integers(0, 5 * INTERVAL_NS),
    after=st.lists(st.integers(0, 2 * INTERVAL_NS), max_size=8),
)
def test_a_recipient_is_never_written_to_more_often_over_a_restart(
    burst: int, before: list[int], pause_ns: int, after: list[int]
) -> None:
    pairs = PairLimit(INTERVAL_NS, burst)
    slots: list[int] = []
    now_ns = 1_000 * NS_PER_S
    for delta_ns in before:
        # As a sender does it: the next one is asked for when this one has gone.
        now_ns = max(now_ns + delta_ns, pairs.reserve("1", now_ns + delta_ns))
        slots.append(now_ns)
    now_ns += pause_ns
    pairs = PairLimit(INTERVAL_NS, burst)
    sends, last_age_ns = history(slots, burst * INTERVAL_NS, now_ns)
    if sends:
        pairs.restore("1", sends, last_age_ns, now_ns)
    for delta_ns in after:
        now_ns += delta_ns
        slots.append(pairs.reserve("1", now_ns))
    assert conforms(slots, burst, INTERVAL_NS)


def test_who_was_written_to_once_has_the_rest_of_the_burst_at_once() -> None:
    pairs, now_ns = PairLimit(INTERVAL_NS, 45), 1_000 * NS_PER_S
    pairs.restore("1", 1, 0, now_ns)
    slots = [pairs.reserve("1", now_ns) - now_ns for _ in range(46)]
    assert slots == [0] * 44 + [INTERVAL_NS, 2 * INTERVAL_NS]


def test_a_burst_before_the_restart_is_paid_back_from_when_it_was() -> None:
    pairs, now_ns = PairLimit(INTERVAL_NS, 45), 1_000 * NS_PER_S
    age_ns = 10 * INTERVAL_NS + 1
    pairs.restore("1", 45, age_ns, now_ns)
    slots = [pairs.reserve("1", now_ns) - now_ns for _ in range(11)]
    assert slots == [0] * 10 + [INTERVAL_NS - 1]


def test_restoring_knows_no_plus_adds_up_and_is_bounded() -> None:
    pairs, now_ns = PairLimit(INTERVAL_NS, 3, recipients_max=4), 1_000 * NS_PER_S
    pairs.restore("gone", 1, 3 * INTERVAL_NS, now_ns)
    assert len(pairs) == 0, "its burst is whole again"
    pairs.restore("1", 1, 9, now_ns)
    pairs.restore("+1", 1, 0, now_ns)
    assert len(pairs) == 1
    assert [pairs.reserve("1", now_ns) - now_ns for _ in range(2)] == [0, INTERVAL_NS]
    for at in range(6):
        pairs.restore(f"many {at}", 1, 0, now_ns)
    assert len(pairs) == 4
    assert pairs.forgotten_early == 3


async def test_slots_are_rebuilt_from_the_sends_that_ended_lately() -> None:
    """What ended without an answer counts with each attempt; what never went does not count."""
    machine = Machine()
    window_ms = 3 * INTERVAL_NS // NS_PER_MS
    told = {"a": (2, 1_000), "b": (1, window_ms + 1), "c": (0, 0), "d": (1, -500), "e": (1, -window_ms - 1)}
    for seq, (to, (attempts, age_ms)) in enumerate(told.items(), 1):
        record = send(seq, to=to)
        record.attempts = attempts
        record.is_uncertain = to == "a"
        machine.disk.sent[seq] = settled(record, settled_ms=WALL_MS - age_ms)
    machine.boot(WALL_MS, recent_ms=window_ms)
    pairs = PairLimit(INTERVAL_NS, 3)
    machine.memory.restore_pairs(pairs)
    now_ns = machine.clock.now_ns()
    at_once = {to: sum(pairs.reserve(to, now_ns) == now_ns for _ in range(5)) for to in told}
    assert at_once == {"a": 1, "b": 3, "c": 3, "d": 2, "e": 3}
    assert machine.store.recovered.recent == [], "memory is given back"


@pytest.mark.parametrize("is_crowded", [False, True])
async def test_finished_sends_are_kept_as_long_as_the_pair_limit_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_crowded: bool
) -> None:
    variables = {"PAIR_LIMIT_INTERVAL": "6s", "SEND_RETENTION": "1m", "LEDGER_AGE": "1m"}
    async with running_gateway(tmp_path, 1, **variables) as harness:
        gateway = harness.gateway
        if is_crowded:
            monkeypatch.setattr(gateway.parts.store, "used_bytes", lambda: 1 << 60)
        limits = gateway._memory_limits()
        now_ms = limits.seen_before_ms + gateway.parts.settings.dedupe_age_ms
        assert now_ms - limits.sent_before_ms == 45 * 6_000


# -- a real process, killed


class Node:
    """A node that says what the text asks for, and notes when it was sent what, with which login."""

    def __init__(self) -> None:
        self.sends: list[tuple[str, str, int]] = []
        """Text, token and time (monotonic)."""
        self.slowed = 0
        self.port = 0
        self._logins = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Node"]:
        app = web.Application()
        app.router.add_post("/v1/users/login", self._login)
        app.router.add_post("/v1/messages", self._send)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _login(self, _request: web.Request) -> web.Response:
        self._logins += 1
        token = f"login-{self._logins}"
        return web.json_response({"users": [{"token": token, "expires_after": "2099-01-01 00:00:00+00:00"}]})

    async def _send(self, request: web.Request) -> web.Response:
        text = (await request.json())["text"]["body"]
        self.sends.append((text, request.headers["Authorization"], time.monotonic_ns()))
        if text == "too much" and not self.slowed:
            self.slowed = 1
            return web.json_response({"errors": [{"code": 1015}]}, status=429, headers={"Retry-After": "0"})
        if text == "spam":
            return web.json_response({"errors": [{"code": 471}]}, status=400)
        return web.json_response({"messages": [{"id": f"wa-{len(self.sends)}"}]}, status=201)

    async def wait_sends(self, is_reached: list[str] | int) -> None:
        """Wait until so many sends, or these texts, have come."""
        while True:
            texts = [text for text, _, _ in self.sends]
            if len(texts) >= is_reached if isinstance(is_reached, int) else set(is_reached) <= set(texts):
                return
            await asyncio.sleep(POLL_S)


def gateway_at(node: Node, directory: Path, **variables: str) -> GatewayProcess:
    return GatewayProcess(
        directory,
        NODE_URL=f"http://127.0.0.1:{node.port}",
        MESSAGE_WEBHOOK_URL="http://127.0.0.1:1/",
        PUSH_TOKENS=TOKEN,
        **variables,
    )


async def push(gateway: GatewayProcess, text: str, to: str = "15550100", priority: str = "normal") -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Gateway-Priority": priority}
    body = json.dumps({"to": to, "type": "text", "text": {"body": text}}).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.ingest}/v1/messages", data=body, headers=headers) as answer,
    ):
        assert answer.status == 202, await answer.text()


async def metric(gateway: GatewayProcess, series: str, least: float) -> float:
    """The value of a series, once it is `least` or more."""
    while (value := (await gateway.metrics())[series]) < least:
        await asyncio.sleep(POLL_S)
    return value


@pytest.mark.timeout(60)
async def test_a_killed_process_leaves_its_pauses_its_ceiling_and_its_pair_slots(tmp_path: Path) -> None:
    async with Node().serving() as node:
        gateway = gateway_at(
            node, tmp_path, TPS="100", TPS_HEADROOM="0%", PAIR_LIMIT_INTERVAL="1h", PAIR_LIMIT_BURST="2"
        )
        async with gateway:
            await push(gateway, "first", to="pair")
            await push(gateway, "second", to="pair")
            await push(gateway, "too much", to="a")
            await push(gateway, "spam", to="b", priority="bulk")
            await node.wait_sends(["first", "second", "too much", "spam"])
            await metric(gateway, 'gateway_send_paused_seconds{scope="bulk"}', 1)
            await metric(gateway, 'gateway_outcome_total{kind="send",outcome="delivered"}', 3)
            await push(gateway, "all before is on disk when this is answered", to="c")
            await gateway.kill()
            await gateway.start()
            metrics = await gateway.metrics()  # in the first second, in which nothing can be refused again
            assert metrics['gateway_send_paused_seconds{scope="bulk"}'] > 24 * 3600
            assert metrics["gateway_tps_ceiling"] == pytest.approx(70, abs=1.5)
            await push(gateway, "third", to="pair")
            assert await metric(gateway, "gateway_pair_limited", 1) == 1
            await node.wait_sends(["all before is on disk when this is answered"])
            texts = [text for text, _, _ in node.sends]
            assert "third" not in texts
            assert texts.count("spam") == 1


@pytest.mark.timeout(60)
async def test_a_second_lies_between_the_last_send_of_a_killed_process_and_the_first_of_the_next(
    tmp_path: Path,
) -> None:
    """All grants of the one are before its death, so no second holds grants of both."""
    async with Node().serving() as node, gateway_at(node, tmp_path, TPS="80") as gateway:
        for number in range(120):
            await push(gateway, str(number), to=str(number))
        await node.wait_sends(40)
        await gateway.kill()
        dead_ns = time.monotonic_ns()
        await gateway.start()
        await node.wait_sends([str(number) for number in range(120)])
        logins = {token for _, token, _ in node.sends}
        first_ns = min(at_ns for _, token, at_ns in node.sends if token.endswith("login-2"))
        assert len(logins) == 2
        assert first_ns - dead_ns >= WINDOW_NS
