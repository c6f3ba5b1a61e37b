"""What a sender does with each answer of the node, and what it costs."""

import pytest
from builders import CONTACT, turns
from send_rig import (
    ATTEMPTS_MAX,
    AWAY,
    BUSY,
    CONTACT_MISSING,
    LOGIN,
    REFUSED,
    SENT,
    SILENT,
    SPAM,
    TROUBLE,
    FakeNode,
    SendRig,
)

from gateway.budget.fanout import EXPIRY_NS, HUSH_NS
from gateway.clock import NS_PER_MS
from gateway.dialects.dialect import Answer
from gateway.errors import NodeError, StoreError
from gateway.events import Kind, Outcome, SendClass
from gateway.outbound.outcomes import Effect
from gateway.outbound.pace import PAUSE_BULK_MS, PAUSE_MIN_MS
from gateway.outbound.send import OUTAGE_SENDS, RETRY_MAX_MS, RETRY_MIN_MS


async def test_a_send_the_node_takes_is_settled_with_its_id() -> None:
    rig = SendRig()
    record = await rig.accept()
    async with rig.working():
        assert rig.outcome(record) is Outcome.DELIVERED
    end = rig.store.disk.sent[record.seq]
    assert (end.node_id, end.reason, end.record.attempts) == ("gBGG1", "", 1)
    assert end.settled_ms == rig.clock.wall_ms()
    assert rig.books.outcomes[Kind.SEND, Outcome.DELIVERED] == 1
    assert rig.store.disk.books[Kind.SEND, Outcome.DELIVERED] == 1
    assert rig.sender.effects[Effect.SENT] == 1


async def test_each_request_takes_a_grant() -> None:
    rig = SendRig(LOGIN, TROUBLE)
    await rig.accept()
    async with rig.working():
        await rig.pass_ms(RETRY_MAX_MS)
        assert rig.budget.granted == rig.node.calls.count("send") == 3


async def test_a_send_that_is_refused_for_good_fails_at_once() -> None:
    rig = SendRig(REFUSED)
    record = await rig.accept()
    async with rig.working():
        assert rig.outcome(record) is Outcome.FAILED
    end = rig.store.disk.sent[record.seq]
    assert end.reason == "HTTP 400 (1013): User is not valid"
    assert rig.node.calls == ["send"]


# -- login and contacts


async def test_nothing_is_granted_before_the_first_login() -> None:
    """What was granted during it would all go at the moment it ends, more than fits into a second."""
    rig = SendRig()
    rig.node.has_token = False
    granted_at_login: list[int] = []
    login = rig.node.login

    async def slow_login() -> None:
        await turns(5)
        granted_at_login.append(rig.budget.granted)
        await login()

    rig.node.login = slow_login  # type: ignore[method-assign]
    first, second = await rig.accept(), await rig.accept()
    async with rig.working(workers=4):
        await turns(20)
        assert granted_at_login == [0]
        assert rig.node.calls == ["login", "send", "send"]
        assert rig.outcome(first) is rig.outcome(second) is Outcome.DELIVERED


async def test_a_first_login_that_is_refused_pauses_and_is_tried_again() -> None:
    rig = SendRig()
    rig.node.has_token = False
    rig.node.login_error = NodeError("login refused: HTTP 401", was_sent=False)
    record = await rig.accept()
    async with rig.working():
        assert rig.pacer.paused_ms() == PAUSE_MIN_MS
        assert rig.budget.granted == 0
        rig.node.login_error = None
        await rig.pass_ms(PAUSE_MIN_MS)
        assert rig.outcome(record) is Outcome.DELIVERED


async def test_an_expired_token_costs_a_login_and_no_attempt() -> None:
    rig = SendRig(LOGIN)
    record = await rig.accept()
    async with rig.working():
        assert rig.node.calls == ["send", "login", "send"]
        assert rig.outcome(record) is Outcome.DELIVERED
    assert record.attempts == 1


async def test_a_repeat_after_a_login_does_not_wait_for_other_work() -> None:
    """All other workers wait for something to become ready; it is due now, and that must wake one."""
    rig = SendRig(LOGIN)
    record = await rig.accept()
    async with rig.working(workers=4):
        assert rig.outcome(record) is Outcome.DELIVERED


async def test_an_unknown_contact_is_asked_for_and_sent_to_again() -> None:
    rig = SendRig(CONTACT_MISSING)
    record = await rig.accept()
    async with rig.working():
        assert rig.node.calls == ["send", f"contact {CONTACT}", "send"]
        assert rig.outcome(record) is Outcome.DELIVERED
    assert record.attempts == 1


async def test_a_node_that_refuses_a_fresh_token_pauses_all_and_fails_nothing() -> None:
    rig = SendRig(LOGIN, LOGIN)
    record = await rig.accept()
    async with rig.working():
        assert rig.node.calls == ["send", "login", "send"]
        assert rig.pacer.paused_ms() == PAUSE_MIN_MS
        await rig.pass_ms(PAUSE_MIN_MS)
        assert rig.outcome(record) is Outcome.DELIVERED
    assert record.attempts == 1


async def test_a_contact_the_node_still_does_not_know_fails_the_send() -> None:
    """Then once more, says the protocol; each further try would cost the number two events."""
    rig = SendRig(CONTACT_MISSING, CONTACT_MISSING)
    record = await rig.accept()
    async with rig.working():
        assert rig.node.calls == ["send", f"contact {CONTACT}", "send"]
        assert rig.outcome(record) is Outcome.FAILED
    assert rig.sender._looked_up == set()


async def test_a_login_that_fails_pauses_everything_and_spends_no_attempt() -> None:
    rig = SendRig(LOGIN)
    rig.node.login_error = NodeError("login refused: HTTP 401", was_sent=False)
    record = await rig.accept()
    async with rig.working():
        assert rig.pacer.paused_ms() == PAUSE_MIN_MS
        assert rig.outcome(record) is None
        assert record.attempts == 0
        await rig.pass_ms(PAUSE_MIN_MS)
        assert rig.outcome(record) is Outcome.DELIVERED


# -- pauses


async def test_an_overloaded_node_pauses_all_and_spends_no_attempt() -> None:
    rig = SendRig(BUSY)
    first = await rig.accept()
    second = await rig.accept(SendClass.REPLY)
    async with rig.working():
        assert rig.node.bodies == [b"2"]
        assert second.attempts == first.attempts == 0
        await rig.pass_ms(PAUSE_MIN_MS - 1)
        assert rig.node.calls == ["send"]
        await rig.pass_ms(1)
        assert rig.node.bodies == [b"2", b"2", b"1"]
        assert rig.outcome(first) is rig.outcome(second) is Outcome.DELIVERED


async def test_the_time_an_overloaded_node_names_is_kept() -> None:
    rig = SendRig(Answer(429, retry_after_s=7.0))
    record = await rig.accept()
    async with rig.working():
        assert rig.pacer.paused_ms() == 7_000
        await rig.pass_ms(6_999)
        assert rig.outcome(record) is None
        await rig.pass_ms(1)
        assert rig.outcome(record) is Outcome.DELIVERED


async def test_a_success_makes_the_next_pause_short_again() -> None:
    rig = SendRig(BUSY, BUSY, SENT, BUSY)
    await rig.accept()
    await rig.accept()
    async with rig.working():
        await rig.pass_ms(PAUSE_MIN_MS)
        assert rig.pacer.paused_ms() == 2 * PAUSE_MIN_MS
        await rig.pass_ms(2 * PAUSE_MIN_MS)
        assert rig.pacer.paused_ms() == PAUSE_MIN_MS


async def test_a_spam_restriction_holds_bulk_back_and_lets_the_rest_go() -> None:
    rig = SendRig(SPAM)
    bulk = await rig.accept(SendClass.BULK)
    async with rig.working(workers=2):
        assert bulk.attempts == 0
        reply = await rig.accept(SendClass.REPLY)
        await turns(20)
        assert rig.outcome(reply) is Outcome.DELIVERED
        assert rig.outcome(bulk) is None
        await rig.pass_ms(PAUSE_BULK_MS - 1)
        assert rig.outcome(bulk) is None
        await rig.pass_ms(1)
        assert rig.outcome(bulk) is Outcome.DELIVERED


async def test_a_spam_restriction_met_by_a_reply_is_tried_again_with_an_attempt() -> None:
    rig = SendRig(SPAM)
    reply = await rig.accept(SendClass.REPLY)
    async with rig.working():
        assert reply.attempts == 1
        await rig.pass_ms(RETRY_MAX_MS)
        assert rig.outcome(reply) is Outcome.DELIVERED


# -- trouble


async def test_trouble_is_tried_again_until_the_attempts_are_spent() -> None:
    rig = SendRig(*[TROUBLE] * 10)
    record = await rig.accept()
    async with rig.working():
        for attempt in range(1, ATTEMPTS_MAX):
            assert record.attempts == attempt
            assert rig.outcome(record) is None
            await rig.pass_ms(RETRY_MAX_MS)
        assert rig.outcome(record) is Outcome.FAILED
    end = rig.store.disk.sent[record.seq]
    assert end.reason == "HTTP 500 (1014): Internal error"
    assert end.record.attempts == ATTEMPTS_MAX
    assert rig.books.outcomes[Kind.SEND, Outcome.FAILED] == 1
    assert rig.node.calls == ["send"] * ATTEMPTS_MAX


async def test_the_wait_before_a_retry_is_between_half_and_all_of_a_doubling_ceiling() -> None:
    rig = SendRig(TROUBLE, TROUBLE)
    record = await rig.accept()
    async with rig.working():
        for ceiling_ms in (RETRY_MIN_MS, 2 * RETRY_MIN_MS):
            sent = len(rig.node.calls)
            await rig.pass_ms(ceiling_ms // 2 - 1)
            assert len(rig.node.calls) == sent
            await rig.pass_ms(ceiling_ms // 2 + 1)
            assert len(rig.node.calls) == sent + 1
        assert rig.outcome(record) is Outcome.DELIVERED


async def test_others_go_on_while_one_waits_for_its_retry() -> None:
    rig = SendRig(TROUBLE)
    first, second = await rig.accept(), await rig.accept()
    async with rig.working():
        assert rig.outcome(first) is None
        assert rig.outcome(second) is Outcome.DELIVERED


async def test_no_answer_marks_a_send_uncertain_and_spends_an_attempt() -> None:
    """The node may have taken it: whoever asks is told."""
    rig = SendRig(SILENT)
    record = await rig.accept()
    async with rig.working():
        assert (record.attempts, record.is_uncertain) == (1, True)
        assert rig.sender.uncertain == 1
        await rig.pass_ms(RETRY_MAX_MS)
        assert rig.outcome(record) is Outcome.DELIVERED
    assert rig.store.disk.sent[record.seq].record.is_uncertain
    status = await rig.store.find_send(rig.store.send_id(record.seq))
    assert status is not None
    assert status.is_uncertain


async def test_a_node_that_never_answers_fails_the_send_with_the_reason() -> None:
    rig = SendRig(*[SILENT] * 10)
    record = await rig.accept()
    async with rig.working():
        for _ in range(ATTEMPTS_MAX):
            await rig.pass_ms(RETRY_MAX_MS)
    assert rig.store.disk.sent[record.seq].reason == "no answer: timed out"
    assert rig.outcome(record) is Outcome.FAILED


async def test_a_node_that_is_away_spends_no_attempt_however_long_it_is() -> None:
    rig = SendRig(*[AWAY] * 20)
    record = await rig.accept()
    async with rig.working():
        for _ in range(20):
            assert (record.attempts, record.is_uncertain) == (0, False)
            assert rig.pacer.paused_ms() > 0
            await rig.pass_ms(rig.pacer.paused_ms())
        assert rig.outcome(record) is Outcome.DELIVERED
    assert rig.sender.uncertain == 0


@pytest.mark.parametrize("answer", [SENT, REFUSED])
async def test_when_the_store_fails_the_send_stays_on_disk(answer: Answer) -> None:
    rig = SendRig(answer)
    record = await rig.accept()
    rig.store.holds_commits = True
    async with rig.working():
        rig.store.fail(StoreError("the disk is ill"))
        await turns(20)
    assert sorted(rig.store.disk.sends) == [record.seq]
    assert rig.queue.taken() == 1
    assert (
        rig.books.outcomes[Kind.SEND, Outcome.DELIVERED] == rig.books.outcomes[Kind.SEND, Outcome.FAILED] == 0
    )


async def test_several_sends_in_trouble_are_the_nodes_trouble_and_spend_no_more_attempts() -> None:
    """However long a node is down, what was accepted is still sent."""
    rig = SendRig(*[TROUBLE] * 40, attempts_max=3)
    records = [await rig.accept() for _ in range(OUTAGE_SENDS)]
    async with rig.working():
        for _ in range(60):
            await rig.pass_ms(RETRY_MAX_MS)
        assert [rig.outcome(record) for record in records] == [Outcome.DELIVERED] * OUTAGE_SENDS
    assert all(record.attempts <= 3 for record in records)


class PickyNode(FakeNode):
    """In trouble with some bodies, for ever, and well with all others."""

    def __init__(self, *bad: bytes) -> None:
        super().__init__()
        self._bad = bad

    async def send(self, body: bytes) -> Answer:
        await super().send(body)
        return TROUBLE if body in self._bad else SENT


async def test_sends_that_are_the_trouble_themselves_do_not_hold_the_others_up() -> None:
    """After a pause one that was never tried goes first, and its success shows that the node is well."""
    rig = SendRig()
    rig.sender._node = PickyNode(b"1", b"2", b"3")
    bad = [await rig.accept(SendClass.HIGH) for _ in range(3)]
    good = [await rig.accept(SendClass.NORMAL) for _ in range(3)]
    async with rig.working():
        assert rig.outcome(good[0]) is None
        await rig.pass_ms(PAUSE_MIN_MS)
        assert rig.outcome(good[0]) is Outcome.DELIVERED
        for _ in range(20):
            good.append(await rig.accept())
            await rig.pass_ms(RETRY_MAX_MS)
        assert [rig.outcome(record) for record in good] == [Outcome.DELIVERED] * len(good)
        assert [rig.outcome(record) for record in bad] == [Outcome.FAILED] * 3


# -- what a send has caused


async def test_a_group_send_is_named_by_the_answer_and_its_receipts_make_room() -> None:
    rig = SendRig()
    await rig.accept(is_group=True)
    second = await rig.accept(is_group=True)
    single = await rig.accept()
    async with rig.working():
        expected = rig.fanout.outstanding
        assert expected == rig.sizes.ratios.expected(256)
        await rig.pass_ms(HUSH_NS // NS_PER_MS)
        assert (rig.outcome(second), rig.outcome(single)) == (None, Outcome.DELIVERED)
        assert rig.sizes.ratios.watched() == 1, "FakeNode calls all by one name"
        for at in range(expected):
            rig.fanout.arrived("gBGG1", f"member {at}", rig.clock.now_ns())
        assert rig.fanout.outstanding == 0
        await rig.pass_ms(3 * 256 * 1000 // 10)  # the gap after a large one
        assert rig.outcome(second) is Outcome.DELIVERED


@pytest.mark.parametrize("answer", [TROUBLE, LOGIN, CONTACT_MISSING, BUSY, SPAM, REFUSED, AWAY])
async def test_a_group_send_that_was_not_taken_causes_nothing(answer: Answer | NodeError) -> None:
    rig = SendRig(*[answer] * 20)
    await rig.accept(is_group=True)
    async with rig.working():
        assert rig.fanout.outstanding == 0
        assert rig.fanout.entries() == 0
        assert not rig.pacer.front._opened


async def test_what_a_group_send_without_an_answer_may_have_caused_is_expected_until_it_expires() -> None:
    rig = SendRig(SILENT)
    record = await rig.accept(is_group=True)
    async with rig.working():
        assert rig.fanout.outstanding == rig.sizes.ratios.expected(256)
        assert not rig.pacer.front._opened
        await rig.pass_ms(EXPIRY_NS // NS_PER_MS - 1)
        assert rig.outcome(record) is None
        await rig.pass_ms(3 * 256 * 1000 // 10)
        assert rig.outcome(record) is Outcome.DELIVERED


async def test_a_recipient_over_its_pair_limit_waits_four_to_the_n_seconds_and_nobody_else() -> None:
    busy = Answer(400, code=131056, title="Pair rate limit hit")
    rig = SendRig(*[busy] * 6, attempts_max=8)
    records = [await rig.accept() for _ in range(3)]
    async with rig.working():
        assert rig.pacer.paused_ms() == 0
        for seconds in (4, 16):
            sent = len(rig.node.calls)
            await rig.pass_ms(seconds * 1000 - 1)
            assert len(rig.node.calls) == sent
            await rig.pass_ms(1)
            assert len(rig.node.calls) == sent + 3
        assert [rig.outcome(record) for record in records] == [Outcome.DELIVERED] * 3
