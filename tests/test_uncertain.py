"""Sends of which nobody knows whether the node took them: sent again, or failed, as whoever pushed them has said."""

import copy

import pytest
from builders import Disk, turns
from send_rig import ATTEMPTS_MAX, AWAY, BUSY, LOGIN, REFUSED, SENT, SILENT, SPAM, TROUBLE, SendRig

from gateway.dialects.dialect import Answer
from gateway.errors import NodeError, StoreError
from gateway.events import OnUncertain, Outcome, SendRecord
from gateway.outbound.outcomes import Effect
from gateway.outbound.send import OUTAGE_SENDS, RETRY_MAX_MS

BAD_GATEWAY = Answer(502)
PARK, RESEND = OnUncertain.PARK, OnUncertain.RESEND


def on_disk(rig: SendRig, record: SendRecord) -> tuple[int, bool]:
    """What the store has of a waiting send: its attempts, and whether it is uncertain."""
    kept = rig.store.disk.sends[record.seq]
    return kept.attempts, kept.is_uncertain


def crash_at_the_request(rig: SendRig) -> list[Disk]:
    """The disk as a crash in the middle of each request would leave it."""
    disks: list[Disk] = []
    rig.node.on_send = lambda _body: disks.append(copy.deepcopy(rig.store.disk))
    return disks


# -- park: never twice


async def test_that_it_goes_is_on_disk_before_it_goes() -> None:
    rig = SendRig()
    record = await rig.accept(on_uncertain=PARK)
    disks = crash_at_the_request(rig)
    async with rig.working():
        assert rig.outcome(record) is Outcome.DELIVERED
    kept = disks[0].sends[record.seq]
    assert (kept.attempts, kept.is_uncertain) == (1, True)
    assert not rig.store.disk.sent[record.seq].record.is_uncertain


async def test_it_does_not_go_while_the_disk_has_not_said_so() -> None:
    rig = SendRig()
    await rig.accept(on_uncertain=PARK)
    rig.store.holds_commits = True
    async with rig.working():
        assert rig.node.calls == []
        rig.store.commit()
        await turns()
        assert rig.node.calls == ["send"]
        rig.store.holds_commits = False
        rig.store.commit()


async def test_when_the_disk_fails_it_does_not_go() -> None:
    rig = SendRig()
    record = await rig.accept(on_uncertain=PARK)
    rig.store.fail(StoreError("no room"))
    async with rig.working():
        assert rig.node.calls == []
    assert rig.queue.taken() == 1
    assert record.seq in rig.store.disk.sends


async def test_after_a_crash_in_the_middle_it_has_failed_and_was_not_sent_again() -> None:
    rig = SendRig()
    record = await rig.accept(on_uncertain=PARK)
    disks = crash_at_the_request(rig)
    async with rig.working():
        pass
    after = SendRig(disk=disks[0])
    async with after.working():
        assert after.outcome(record) is Outcome.FAILED
    assert after.node.calls == []
    end = after.store.disk.sent[record.seq]
    assert end.reason.startswith("uncertain: ")
    assert (end.record.attempts, end.record.is_uncertain) == (1, True)


async def test_after_a_crash_one_that_may_be_repeated_is_sent_again() -> None:
    rig = SendRig()
    record = await rig.accept(on_uncertain=RESEND)
    disks = crash_at_the_request(rig)
    async with rig.working():
        pass
    after = SendRig(disk=disks[0])
    async with after.working():
        assert after.outcome(record) is Outcome.DELIVERED
    assert after.node.calls == ["send"]


@pytest.mark.parametrize("answer", [SILENT, BAD_GATEWAY, Answer(500), Answer(408)])
async def test_without_an_answer_it_has_failed_at_once(answer: Answer | NodeError) -> None:
    rig = SendRig(answer)
    record = await rig.accept(on_uncertain=PARK)
    async with rig.working():
        assert rig.outcome(record) is Outcome.FAILED
        await rig.pass_ms(RETRY_MAX_MS)
    assert rig.node.calls == ["send"]
    end = rig.store.disk.sent[record.seq]
    assert end.reason.startswith("uncertain: ")
    assert (end.record.attempts, end.record.is_uncertain) == (1, True)
    assert rig.sender.uncertain == 1


@pytest.mark.parametrize("answer", [AWAY, BUSY, LOGIN, TROUBLE, SPAM])
async def test_what_the_node_did_not_take_is_certain_again_and_goes_again(answer: Answer | NodeError) -> None:
    rig = SendRig(answer)
    record = await rig.accept(on_uncertain=PARK)
    disks = crash_at_the_request(rig)
    async with rig.working():
        if record.seq in rig.store.disk.sends:
            assert on_disk(rig, record)[1] is False
        await rig.pass_ms(RETRY_MAX_MS)
        assert rig.outcome(record) is Outcome.DELIVERED
    assert rig.node.calls.count("send") == len(disks) == 2
    assert rig.sender.uncertain == 0
    after = SendRig(disk=disks[1])
    async with after.working():
        assert after.outcome(record) is Outcome.FAILED, "the second attempt was on disk too"


async def test_a_crash_while_it_waits_for_its_retry_costs_it_nothing() -> None:
    rig = SendRig(TROUBLE)
    record = await rig.accept(on_uncertain=PARK)
    async with rig.working():
        disk = copy.deepcopy(rig.store.disk)
    after = SendRig(disk=disk)
    async with after.working():
        assert after.outcome(record) is Outcome.DELIVERED
    assert after.store.disk.sent[record.seq].record.attempts == 2


async def test_a_refusal_is_a_refusal() -> None:
    rig = SendRig(REFUSED)
    record = await rig.accept(on_uncertain=PARK)
    async with rig.working():
        assert rig.outcome(record) is Outcome.FAILED
    assert rig.store.disk.sent[record.seq].reason == "HTTP 400 (1013): User is not valid"


async def test_a_silent_node_does_not_fail_one_after_the_other_without_a_pause() -> None:
    rig = SendRig(*[SILENT] * (OUTAGE_SENDS + 1))
    records = [await rig.accept(on_uncertain=PARK) for _ in range(OUTAGE_SENDS + 2)]
    async with rig.working():
        assert len(rig.node.calls) == OUTAGE_SENDS
        assert rig.pacer.paused_ms() > 0
        await rig.pass_ms(rig.pacer.paused_ms())
        assert len(rig.node.calls) == OUTAGE_SENDS + 1, "one more, and a longer pause"
        assert rig.pacer.paused_ms() > 0
        await rig.pass_ms(rig.pacer.paused_ms())
    assert [rig.outcome(record) for record in records] == [*[Outcome.FAILED] * 4, Outcome.DELIVERED]


# -- resend: at least once


@pytest.mark.parametrize("answer", [SILENT, BAD_GATEWAY])
async def test_attempts_and_doubt_are_on_disk_while_it_waits(answer: Answer | NodeError) -> None:
    rig = SendRig(answer)
    record = await rig.accept()
    async with rig.working():
        assert on_disk(rig, record) == (1, True)
        status = await rig.store.find_send(record.id)
        assert status is not None
        assert (status.state, status.attempts, status.is_uncertain) == ("queued", 1, True)
        await rig.pass_ms(RETRY_MAX_MS)
        assert rig.outcome(record) is Outcome.DELIVERED
    assert rig.store.disk.sent[record.seq].record.is_uncertain
    assert rig.sender.uncertain == 1


async def test_an_attempt_that_the_node_answered_is_counted_on_disk_without_doubt() -> None:
    rig = SendRig(TROUBLE)
    record = await rig.accept()
    async with rig.working():
        assert on_disk(rig, record) == (1, False)


async def test_attempts_go_on_after_a_restart() -> None:
    rig = SendRig(TROUBLE, attempts_max=ATTEMPTS_MAX)
    record = await rig.accept()
    async with rig.working():
        disk = copy.deepcopy(rig.store.disk)
    after = SendRig(*[TROUBLE] * ATTEMPTS_MAX, attempts_max=ATTEMPTS_MAX, disk=disk)
    async with after.working():
        for _ in range(ATTEMPTS_MAX):
            await after.pass_ms(RETRY_MAX_MS)
        assert after.outcome(record) is Outcome.FAILED
    assert len(after.node.calls) == ATTEMPTS_MAX - 1


async def test_it_is_given_back_only_when_its_attempt_is_on_disk() -> None:
    """Given back before, it could be given another class and its row another key, which the attempt would miss."""
    rig = SendRig(TROUBLE)
    await rig.accept()
    rig.store.holds_commits = True
    async with rig.working():
        assert (rig.queue.taken(), rig.queue.delayed()) == (1, 0)
        rig.store.commit()
        await turns()
        assert (rig.queue.taken(), rig.queue.delayed()) == (0, 1)


async def test_receipts_of_a_send_that_a_proxy_gave_up_on_are_still_expected() -> None:
    rig = SendRig(BAD_GATEWAY, SENT)
    await rig.accept(is_group=True)
    async with rig.working():
        assert rig.fanout.entries() == 1
        assert rig.sender.effects[Effect.RETRY] == 1
