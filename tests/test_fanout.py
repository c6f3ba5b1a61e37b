"""The fan-out window: what group sends have caused, when the next one goes, and books that are always right."""

from pathlib import Path

import pytest
from harness import running_gateway
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.budget.fanout import (
    CLEAR_MAX_NS,
    EARLY_IDS_MAX,
    EARLY_RECEIPTS_MAX,
    ENTRIES_MAX,
    EXPIRY_NS,
    QUIET_NS,
    FanOut,
    Ruling,
    Verdict,
)
from gateway.clock import NS_PER_S

T0 = 1_000 * NS_PER_S
TPS = 10
LIMIT = 50
LARGE = 244
GAP_NS = 3 * LARGE * NS_PER_S // TPS


def books(tps: int = TPS) -> FanOut:
    return FanOut(tps)


def arrive(fanout: FanOut, message_id: str, count: int, now_ns: int, first: int = 0) -> None:
    for at in range(first, first + count):
        fanout.arrived(message_id, f"member {at}", now_ns)


def opened(fanout: FanOut, k: int, message_id: str = "a", now_ns: int = T0) -> int:
    token = fanout.open(k, now_ns)
    fanout.name(token, message_id, now_ns)
    return token


# -- when a send goes


@pytest.mark.parametrize("k", [0, 1])
def test_a_single_chat_is_never_held_and_never_tracked(k: int) -> None:
    fanout = books()
    opened(fanout, LARGE)
    assert fanout.verdict(k, T0) == (Verdict.GO, T0)
    assert fanout.open(k, T0) == 0
    fanout.name(0, "x", T0)
    fanout.cancel(0, T0)
    assert fanout.entries() == 1


def test_the_first_goes_whatever_its_size() -> None:
    assert books().verdict(LARGE, T0) == (Verdict.GO, T0)


def test_receipts_for_five_seconds_of_the_plan_may_be_outstanding() -> None:
    fanout = books()
    assert fanout.limit == LIMIT
    opened(fanout, 30)
    assert fanout.verdict(20, T0).verdict is Verdict.GO
    assert fanout.verdict(21, T0) == (Verdict.WAIT, T0 + EXPIRY_NS)


def test_the_window_is_a_time_at_the_rate_of_the_plan() -> None:
    fanout = FanOut(TPS, window_ms=1_200)
    opened(fanout, 2)
    assert fanout.verdict(10, T0).verdict is Verdict.GO
    assert fanout.verdict(11, T0).verdict is Verdict.WAIT
    fanout.tps = 2 * TPS
    assert fanout.verdict(22, T0).verdict is Verdict.GO
    assert fanout.verdict(23, T0).verdict is Verdict.WAIT


def test_a_receipt_that_costs_more_fills_the_window_sooner() -> None:
    assert FanOut(TPS, cost=2).limit == LIMIT // 2


def test_goes_on_time_and_not_a_nanosecond_early_when_nothing_comes() -> None:
    fanout = books()
    opened(fanout, 40, "a", T0)
    opened(fanout, 10, "b", T0 + 1)
    assert fanout.verdict(50, T0 + EXPIRY_NS - 1) == (Verdict.WAIT, T0 + 1 + EXPIRY_NS)
    assert fanout.verdict(40, T0 + EXPIRY_NS - 1) == (Verdict.WAIT, T0 + EXPIRY_NS)
    assert fanout.verdict(40, T0 + EXPIRY_NS).verdict is Verdict.GO
    assert fanout.verdict(50, T0 + EXPIRY_NS).verdict is Verdict.WAIT
    assert fanout.verdict(50, T0 + EXPIRY_NS + 1).verdict is Verdict.GO


def test_goes_as_soon_as_receipts_have_made_room() -> None:
    rung = []
    fanout = books()
    fanout.on_room = lambda: rung.append(fanout.outstanding)
    opened(fanout, 40)
    assert fanout.verdict(20, T0).verdict is Verdict.WAIT
    arrive(fanout, "a", 9, T0)
    assert (rung, fanout.verdict(20, T0).verdict) == ([], Verdict.WAIT)
    arrive(fanout, "a", 1, T0, first=9)
    assert (rung, fanout.verdict(20, T0).verdict) == ([30], Verdict.GO)
    arrive(fanout, "a", 1, T0, first=10)
    assert rung == [30], "rung once, and not for those who need not wait"


def test_a_large_one_waits_for_the_last_receipt_of_a_small_one() -> None:
    rung = []
    fanout = books()
    fanout.on_room = lambda: rung.append(True)
    opened(fanout, 2)
    assert fanout.verdict(LARGE, T0).verdict is Verdict.WAIT
    arrive(fanout, "a", 1, T0)
    assert not rung
    arrive(fanout, "a", 1, T0, first=1)
    assert rung
    assert fanout.verdict(LARGE, T0).verdict is Verdict.GO


def test_between_two_large_ones_single_chats_have_two_thirds_of_the_time() -> None:
    fanout = books()
    opened(fanout, LARGE)
    arrive(fanout, "a", LARGE, T0)
    assert fanout.outstanding == 0
    assert fanout.verdict(LARGE, T0 + GAP_NS - 1) == (Verdict.WAIT, T0 + GAP_NS)
    assert fanout.verdict(LARGE, T0 + GAP_NS).verdict is Verdict.GO
    assert fanout.verdict(LIMIT, T0).verdict is Verdict.GO, "one that fits the window needs no gap"


def test_no_gap_after_a_large_one_that_was_refused() -> None:
    fanout = books()
    fanout.cancel(fanout.open(LARGE, T0), T0)
    assert fanout.outstanding == 0
    assert fanout.verdict(LARGE, T0).verdict is Verdict.GO


def test_a_large_one_goes_into_quiet_and_a_small_one_does_not_care() -> None:
    fanout = books()
    quiet = TPS * 10 // 4
    fanout.charge_arrival(quiet, T0)
    assert fanout.verdict(LARGE, T0).verdict is Verdict.GO
    fanout.charge_arrival(1, T0 + 5)
    assert fanout.verdict(LIMIT, T0 + 5).verdict is Verdict.GO
    assert fanout.verdict(LARGE, T0 + 5) == (Verdict.CLEAR, T0 + QUIET_NS)
    assert fanout.verdict(LARGE, T0 + QUIET_NS - 1).verdict is Verdict.CLEAR
    assert fanout.verdict(LARGE, T0 + QUIET_NS) == (Verdict.GO, T0 + QUIET_NS)


def test_clearing_lasts_twenty_seconds_at_most() -> None:
    fanout = books()
    for second in range(10):
        fanout.charge_arrival(TPS, T0 + second * NS_PER_S)
    begun_ns = now_ns = T0 + 10 * NS_PER_S - 1
    while now_ns < begun_ns + CLEAR_MAX_NS:
        fanout.charge_arrival(TPS, now_ns)
        ruling = fanout.verdict(LARGE, now_ns)
        assert ruling.verdict is Verdict.CLEAR
        assert now_ns < ruling.until_ns <= begun_ns + CLEAR_MAX_NS
        now_ns += NS_PER_S
    fanout.charge_arrival(TPS, now_ns - 1)
    assert fanout.verdict(LARGE, now_ns - 1) == (Verdict.CLEAR, now_ns)
    assert fanout.verdict(LARGE, now_ns).verdict is Verdict.GO
    opened(fanout, LARGE, now_ns=now_ns)
    later_ns = now_ns + GAP_NS
    fanout.charge_arrival(26, later_ns)
    assert fanout.verdict(LARGE, later_ns).verdict is Verdict.CLEAR, "the next one clears anew"


# -- what comes


def test_a_participant_counts_once_whether_delivered_or_read() -> None:
    fanout = books()
    opened(fanout, 5)
    for _ in range(3):
        fanout.arrived("a", "x", T0)
    assert fanout.outstanding == 4


def test_receipts_without_a_participant_count_each() -> None:
    fanout = books()
    opened(fanout, 5)
    fanout.arrived("a", "", T0)
    fanout.arrived("a", "", T0)
    assert fanout.outstanding == 3


def test_more_receipts_than_expected_and_late_ones_change_nothing() -> None:
    fanout = books()
    opened(fanout, 3)
    arrive(fanout, "a", 9, T0)
    assert (fanout.outstanding, fanout.entries(), fanout.early()) == (0, 0, 0)
    opened(fanout, 3, "b")
    fanout.expire(T0 + EXPIRY_NS)
    arrive(fanout, "b", 3, T0 + EXPIRY_NS)
    assert (fanout.outstanding, fanout.entries(), fanout.early()) == (0, 0, 0)


def test_receipts_before_the_answer_are_not_lost() -> None:
    fanout = books()
    token = fanout.open(5, T0)
    arrive(fanout, "a", 2, T0)
    fanout.arrived("a", "member 0", T0)
    assert (fanout.outstanding, fanout.early()) == (5, 1)
    fanout.name(token, "a", T0)
    assert (fanout.outstanding, fanout.early()) == (3, 0)
    fanout.arrived("a", "member 1", T0)
    assert fanout.outstanding == 3


def test_what_nobody_can_have_sent_is_not_kept() -> None:
    fanout = books()
    opened(fanout, 5)
    fanout.arrived("of yesterday", "x", T0)
    assert fanout.early() == 0


def test_what_is_kept_for_names_to_come_is_bounded_and_the_oldest_goes() -> None:
    fanout = books(1000)
    first, second = fanout.open(2000, T0), fanout.open(2000, T0)
    arrive(fanout, "old", 5, T0)
    arrive(fanout, "new", EARLY_RECEIPTS_MAX + 5, T0)
    for at in range(EARLY_IDS_MAX - 1):
        fanout.arrived(f"other {at}", "x", T0)
    assert fanout.early() == EARLY_IDS_MAX
    fanout.name(first, "old", T0)
    fanout.name(second, "new", T0)
    assert fanout.outstanding == 4000 - EARLY_RECEIPTS_MAX


def test_a_send_without_an_id_or_with_another_ones_id_expires() -> None:
    fanout = books()
    opened(fanout, 5, "")
    opened(fanout, 5, "a")
    opened(fanout, 5, "a")
    arrive(fanout, "a", 5, T0)
    assert fanout.outstanding == 10
    fanout.expire(T0 + EXPIRY_NS)
    assert (fanout.outstanding, fanout.entries()) == (0, 0)


def test_sends_on_their_way_are_bounded() -> None:
    fanout = books(5_000)
    for _ in range(ENTRIES_MAX):
        assert fanout.verdict(2, T0).verdict is Verdict.GO
        fanout.open(2, T0)
    assert fanout.verdict(2, T0) == Ruling(Verdict.WAIT, T0 + EXPIRY_NS)


@pytest.mark.parametrize(
    ("variables", "limit"),
    [
        ({}, LIMIT),
        ({"FANOUT_WINDOW": "2s"}, 20),
        ({"FANOUT_WINDOW": "0s"}, None),
        ({"TPS_COST": "receive=1,send=1,delivered=0,read=0"}, None),
    ],
)
async def test_a_gateway_has_the_window_of_its_settings_or_none(
    tmp_path: Path, variables: dict[str, str], limit: int | None
) -> None:
    async with running_gateway(tmp_path, 1, TPS=str(TPS), **variables) as gateway:
        made = gateway.gateway.parts.fanout
        assert (made.limit if made is not None else None) == limit


class Books(RuleBasedStateMachine):
    """Any order of calls beside a plain model: tokens to what they still miss."""

    def __init__(self) -> None:
        super().__init__()
        self.fanout = FanOut(1)
        self.now_ns = T0
        self.left: dict[int, int] = {}
        self.opened_ns: dict[int, int] = {}
        self.ids: dict[int, str] = {}
        self.seen: dict[str, set[str]] = {}
        self.early: dict[str, set[str]] = {}

    def _expire(self) -> None:
        for token in [t for t, at_ns in self.opened_ns.items() if at_ns + EXPIRY_NS <= self.now_ns]:
            self._drop(token)

    def _drop(self, token: int) -> None:
        self.left.pop(token, None)
        self.opened_ns.pop(token, None)
        self._forget_early()

    def _forget_early(self) -> None:
        if all(token in self.ids for token in self.left):
            self.early.clear()

    def _count(self, token: int, participant: str) -> None:
        seen = self.seen.setdefault(self.ids[token], set())
        if token in self.left and participant not in seen:
            seen.add(participant)
            self.left[token] -= 1
            if not self.left[token]:
                self._drop(token)

    @precondition(lambda self: len(self.left) < 20)
    @rule(k=st.integers(0, 12))
    def open(self, k: int) -> None:
        token = self.fanout.open(k, self.now_ns)
        assert (token == 0) == (k <= 1)
        self._expire()
        if token:
            self.left[token] = k
            self.opened_ns[token] = self.now_ns

    @rule(token=st.integers(1, 30), message_id=st.sampled_from("abcd"))
    def name(self, token: int, message_id: str) -> None:
        self._expire()
        self.fanout.name(token, message_id, self.now_ns)
        early = self.early.pop(message_id, set())
        is_new = message_id not in [self.ids.get(other) for other in self.left]
        if token in self.left and token not in self.ids and is_new:
            self.ids[token] = message_id
            self.seen[message_id] = set()
            self._forget_early()
            for participant in early:
                self._count(token, participant)

    @rule(token=st.integers(0, 30))
    def cancel(self, token: int) -> None:
        self._expire()
        self.fanout.cancel(token, self.now_ns)
        self._drop(token)

    @rule(message_id=st.sampled_from("abcde"), participant=st.sampled_from("pqrstu"))
    def arrived(self, message_id: str, participant: str) -> None:
        self._expire()
        self.fanout.arrived(message_id, participant, self.now_ns)
        for token in self.left:
            if self.ids.get(token) == message_id:
                self._count(token, participant)
                return
        if any(token not in self.ids for token in self.left):
            self.early.setdefault(message_id, set()).add(participant)

    @rule(seconds=st.integers(0, 8))
    def wait(self, seconds: int) -> None:
        self.now_ns += seconds * NS_PER_S
        self.fanout.expire(self.now_ns)
        self._expire()

    @rule(k=st.integers(0, 12))
    def ask(self, k: int) -> None:
        self._expire()
        fits = not self.left or sum(self.left.values()) + k <= self.fanout.limit
        ruling = self.fanout.verdict(k, self.now_ns)
        if k <= 1 or (fits and k <= self.fanout.limit):
            assert ruling == (Verdict.GO, self.now_ns)
        elif not fits:
            assert ruling.verdict is Verdict.WAIT
            assert ruling.until_ns > self.now_ns

    @invariant()
    def the_books_are_right(self) -> None:
        assert self.fanout.outstanding == sum(self.left.values())
        assert self.fanout.entries() == len(self.left)
        assert self.fanout.early() == len(self.early)

    def teardown(self) -> None:
        self.fanout.expire(self.now_ns + EXPIRY_NS)
        assert (self.fanout.outstanding, self.fanout.entries(), self.fanout.early()) == (0, 0, 0)
        assert not self.fanout._named


BooksTest = Books.TestCase
BooksTest.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
