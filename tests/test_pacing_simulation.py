"""The TPS budget in the closed loop of the design study, in virtual time, beside a naive and a debit-only pacer.

Study: the number serves N events a second in order; one customer a second writes; 95 % of sends are delivered
(lognormal, median 2 s, sigma 0.8), 70 % read (median 60 s, sigma 1.2); bulk never ends; headroom 5 %.
"""

import random
from functools import cache
from itertools import pairwise
from statistics import fmean

import pytest

from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import SendClass, TpsKind
from gateway.sim import limits
from gateway.sim.counter import WireCounter
from gateway.sim.mixed import Mixed, draw
from gateway.sim.number import BACKLOG_MAX, Event, Number
from gateway.sim.pacing import ONE_EACH, PacingReport, PacingRun
from gateway.sim.policies import Debit, Naive, Real, VirtualClock
from gateway.sim.workload import GROUP_MEMBERS, Workload, campaign, day, poisson_ns

HEADROOM_PERCENT = 5
STORM_S = 600.0


def make_real(tps: int, now_ns: int) -> Real:
    return Real(tps, ONE_EACH, HEADROOM_PERCENT, now_ns)


def make_debit(tps: int, now_ns: int) -> Debit:
    return Debit(tps, ONE_EACH, HEADROOM_PERCENT, now_ns)


def play_campaign(tps: int, seed: int, minutes: float = 60.0) -> PacingReport:
    return PacingRun(tps, seed, campaign(seed, minutes), make_real).play()


@cache
def play_storm(tps: int, seed: int, *, is_debit_only: bool = False) -> PacingReport:
    """Two hours, and ten messages to groups of 256 after ten minutes."""
    workload = campaign(seed, 120.0, groups=10, storm_at_s=STORM_S)
    return PacingRun(tps, seed, workload, make_debit if is_debit_only else make_real).play()


# -- the campaign


@pytest.mark.parametrize("seed", [1, 2])
def test_a_campaign_uses_95_percent_of_the_plan_and_messages_do_not_wait(seed: int) -> None:
    report = play_campaign(10, seed)
    assert 0.945 <= report.use(10, 60, 3600) <= 0.955
    # Of sixty messages the 99th percentile is the last: no message of any minute waited longer.
    assert max(report.wait_s(0.99, 60.0 * minute, 60.0 * minute + 60) for minute in range(60)) < 1.2
    assert report.number.lost_messages == report.number.lost_receipts == report.number.refused_sends == 0
    assert report.counter.violations() == report.broken_books() == []


def test_naive_pacing_makes_messages_wait_without_end_and_then_loses_them() -> None:
    report = PacingRun(10, 1, campaign(1, 60.0), Naive).play()
    # Two minutes more every five minutes, until the number has room for nothing.
    waits_s = [report.wait_s(0.5, begin_s, begin_s + 300) for begin_s in (0, 300, 600, 900)]
    assert all(later > earlier + 120 for earlier, later in pairwise(waits_s))
    assert report.number.backlog == BACKLOG_MAX
    assert report.number.lost_messages > 1000
    assert report.counter.violations()


# -- ten groups on top


def test_one_group_of_256_alone_fills_ten_tps_for_17_seconds() -> None:
    """243 receipts come within seconds and are served ten a second, so at the peak no pacer can be below that."""
    worst_s = []
    for seed in range(20):
        number = Number(10, random.Random(seed))
        number.is_reported[TpsKind.READ] = False
        number.offer_send(0, "a", "group", members=[str(n) for n in range(GROUP_MEMBERS)])
        served = number.advance(600 * NS_PER_S)
        worst_s.append(max(event.wait_ns for event in served) / NS_PER_S)
    assert 16.5 < sorted(worst_s)[10] < 18.0


@pytest.mark.parametrize(
    ("tps", "seed", "wait_s_max", "end_s_max"), [(10, 1, 18.0, 15 * 60), (20, 1, 7.0, 9 * 60)]
)
def test_ten_groups_of_256_leave_the_number_to_others(
    tps: int, seed: int, wait_s_max: float, end_s_max: float
) -> None:
    """Over two hours, p99 of what messages wait at the number. The last group waits, and single chats go on."""
    report = play_storm(tps, seed)
    assert report.wait_s(0.99) < wait_s_max
    # Before and long after it nobody notices.
    assert max(report.wait_s(1.0, 0, STORM_S), report.wait_s(1.0, 3600)) < 1.2
    groups_s = report.group_sends_s()
    assert len(groups_s) == 10
    assert groups_s[-1] < STORM_S + end_s_max
    for begin_s, end_s in pairwise(groups_s):
        singles = report.counter.sends_between(int(begin_s * NS_PER_S) + 1, int(end_s * NS_PER_S))
        assert singles >= 0.05 * tps * (end_s - begin_s), "single chats go on between two groups"
    assert report.counter.violations() == report.broken_books() == []
    assert report.number.lost_messages == report.number.refused_sends == 0


@pytest.mark.parametrize(("tps", "wait_s_min", "ratio_min"), [(10, 35.0, 2.0), (20, 18.0, 3.0)])
def test_without_the_fan_out_window_ten_groups_are_far_worse(
    tps: int, wait_s_min: float, ratio_min: float
) -> None:
    debit, real = play_storm(tps, 1, is_debit_only=True), play_storm(tps, 1)
    assert debit.wait_s(0.99) > wait_s_min
    assert debit.wait_s(0.99) > ratio_min * real.wait_s(0.99)
    # It keeps the plan all the same: what it lacks is foresight.
    assert debit.counter.violations() == debit.broken_books() == []


# -- the day


def test_a_day_of_mixed_traffic_keeps_every_promise() -> None:
    workload = day(1)
    report = PacingRun(20, 1, workload, make_real, is_delayed=True, settle_s=3600.0).play()
    assert report.unsent == 0
    assert report.counter.violations() == report.broken_books() == []
    assert report.number.lost_messages == report.number.lost_receipts == report.number.refused_sends == 0
    hour = 3600
    for begin_s in (10 * hour + 60, 16 * hour + 700):
        assert report.use(20, begin_s, begin_s + 300) > 0.94, "campaigns use what there is"
    assert report.wait_s(0.99) < 7.0
    assert report.wait_s(1.0, 16 * hour, 17 * hour) < 1.2, "a campaign without groups is not noticed"
    # Ninety seconds without a node, then the replies that waited; at any other time, moments.
    assert report.longest_wait_s()[SendClass.REPLY] < 120
    assert len(report.group_sends_s()) == 36


# -- a loop that stands still, and a wall clock that is set


@pytest.mark.parametrize("is_delayed", [False, True])
@pytest.mark.parametrize("tps", [10, 20, 250])
def test_a_loop_that_stands_still_causes_no_burst_and_then_the_rate_is_used_again(
    tps: int,
    is_delayed: bool,
) -> None:
    """Twelve stalls of 0.1 to 10 s in a campaign. Receipts go on coming, and are looked at after the pacer was asked."""
    rng = random.Random(f"{tps}/stalls")
    lengths_s = [0.1, 0.3, 1.0, 1.1, 3.0, 10.0] * 2
    rng.shuffle(lengths_s)
    begins_s = [30.0 * (n + 1) + rng.random() for n in range(len(lengths_s))]
    stalls_ns = [
        (int(begin_s * NS_PER_S), int((begin_s + length_s) * NS_PER_S))
        for begin_s, length_s in zip(begins_s, lengths_s, strict=True)
    ]
    length_s = 400
    workload = Workload(
        length_ns=length_s * NS_PER_S,
        writes_ns=poisson_ns(rng, 0.0, length_s, 0.1 * tps),
        is_campaign_endless=True,
        stalls_ns=stalls_ns,
    )
    report = PacingRun(tps, 1, workload, make_real, is_delayed=is_delayed).play()
    assert report.counter.violations() == report.broken_books() == []
    aim_per_s = 0.95 * tps
    assert limits.bursts(report.counter.sends_ns, 1, 1 + max(1.0, 0.010 * aim_per_s), aim_per_s) == []
    for begin_ns, end_ns in stalls_ns:
        assert report.counter.sends_between(begin_ns, end_ns) == 0
        if end_ns - begin_ns > NS_PER_S:
            assert report.counter.sends_between(end_ns, end_ns + 1) >= 1, (
                "sends wait no longer than the stall"
            )
    recovered_s = [end_ns / NS_PER_S + 6 for _, end_ns in stalls_ns]
    # Of 0.95; over all of them, since 12 s of 10 TPS are a few receipts more or less.
    assert fmean(report.use(tps, begin_s, begin_s + 12) for begin_s in recovered_s) > 0.94


class SetClock(VirtualClock):
    """A wall clock that somebody sets, hours to and fro, each time it is looked at."""

    def __init__(self, now_ns: int, rng: random.Random) -> None:
        super().__init__(now_ns)
        self._rng = rng
        self.looks = 0

    def wall_ms(self) -> int:
        self.looks += 1
        return 1_700_000_000_000 + self._rng.randint(-48, 48) * 3_600_000


def test_a_wall_clock_that_is_set_changes_nothing_in_the_pacing() -> None:
    """With restarts, 429, stalls, groups and pair limits: the same sends at the same nanoseconds."""
    looks = 0
    for seed in range(20):
        mixed = draw(seed)
        clocks: list[SetClock] = []

        def make(tps: int, now_ns: int, mixed: Mixed = mixed, clocks: list[SetClock] = clocks) -> Real:
            clocks.append(SetClock(now_ns, random.Random(mixed.seed)))
            return mixed.make_real(tps, now_ns, clocks[-1])

        assert mixed.play(make).sends == mixed.play().sends
        looks += sum(clock.looks for clock in clocks)
    assert looks > 0, "a clock nobody looks at proves nothing"


# -- the independent counter


@pytest.mark.parametrize("headroom_percent", [0, 5])
@pytest.mark.parametrize("tps", [10, 80])
def test_the_plan_holds_on_the_wire_across_restarts_and_changes_of_plan(
    tps: int, headroom_percent: int
) -> None:
    """Restarts and changes at random moments, a wire that takes up to 20 ms, customers who write in bursts."""
    rng = random.Random(f"{tps}/{headroom_percent}")
    seconds = 120
    moments = [sorted(rng.randrange(seconds * NS_PER_S) for _ in range(12)) for _ in range(2)]
    writes = poisson_ns(rng, 0.0, seconds, 0.3 * tps)
    writes += [begin_ns for begin_ns in moments[0] for _ in range(tps)]
    workload = Workload(
        length_ns=seconds * NS_PER_S,
        writes_ns=sorted(writes),
        is_campaign_endless=True,
        restarts_ns=moments[0],
        plans=[(at_ns, rng.randint(tps // 2, tps)) for at_ns in moments[1]],
    )

    def make(plan: int, now_ns: int) -> Real:
        return Real(plan, ONE_EACH, headroom_percent, now_ns)

    report = PacingRun(tps, 1, workload, make, is_delayed=True).play()
    assert report.counter.violations() == report.broken_books() == []
    assert len(report.sends) > 10 * tps


def test_a_budget_of_one_more_is_found_by_the_counter() -> None:
    def make(plan: int, now_ns: int) -> Real:
        return Real(plan + 1, ONE_EACH, 0, now_ns)

    workload = Workload(length_ns=60 * NS_PER_S, is_campaign_endless=True)
    assert PacingRun(10, 1, workload, make).play().counter.violations()


def test_a_read_that_is_not_charged_is_found_in_the_books() -> None:
    class Deaf(Real):
        is_told = False

        def arrived(self, event: Event, now_ns: int) -> bool:
            if event.kind is TpsKind.READ and not self.is_told:
                self.is_told = True
                return False
            return super().arrived(event, now_ns)

    report = PacingRun(
        10, 1, campaign(1, 5.0), lambda tps, now_ns: Deaf(tps, ONE_EACH, HEADROOM_PERCENT, now_ns)
    ).play()
    (found,) = report.broken_books()
    assert found.startswith("read: ")


def test_the_counter_allows_a_full_second_and_finds_one_send_more() -> None:
    counter = WireCounter(ONE_EACH)
    counter.served(TpsKind.RECEIVE, 0, 0)
    for n in range(1, 4):
        counter.sent(n * 100 * NS_PER_MS, n * 100 * NS_PER_MS, 4)
    assert counter.worst_windows() == (0, 1)
    counter.sent(NS_PER_S, NS_PER_S, 4)  # the message is a second ago: out
    assert counter.violations() == []
    counter.sent(NS_PER_S + 1, NS_PER_S + 1, 4)
    assert counter.violations() == [
        "send 4 at 1.000000 s: 5 events in its second, 5 of them sends, allowed 4"
    ]


def test_the_counter_does_not_blame_a_send_for_what_it_could_not_know() -> None:
    """The webhook was still on its way when the send left; for the next send it had come."""
    counter = WireCounter(ONE_EACH)
    counter.served(TpsKind.RECEIVE, 100 * NS_PER_MS, 120 * NS_PER_MS)
    counter.sent(119 * NS_PER_MS, 130 * NS_PER_MS, 1)
    assert counter.violations() == []
    counter.sent(120 * NS_PER_MS, 1131 * NS_PER_MS, 1)
    assert counter.violations() == []
    counter.sent(NS_PER_S, 1132 * NS_PER_MS, 1)
    assert len(counter.violations()) == 1


def test_the_same_seed_plays_the_same_run() -> None:
    runs = [
        PacingRun(20, 3, campaign(3, 2.0, groups=2, storm_at_s=30.0), make_real, is_delayed=True).play()
        for _ in range(2)
    ]
    assert runs[0].sends == runs[1].sends
    assert runs[0].waits == runs[1].waits
