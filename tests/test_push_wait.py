"""`Prefer: wait=N`: the node's own answer if it comes in time, else 202; and who waits holds nothing up."""

import asyncio
import json

import pytest
from builders import turns
from push_rig import PushRig
from virtual_time import run_virtual, virtual_loop

from gateway.clock import FakeClock
from gateway.dialects.dialect import Answer
from gateway.events import Outcome, SendRecord
from gateway.outbound.answers import PushAnswer

TAKEN = b'{"messages": [{"id": "wa1"}], "meta": {"version": "2.43"}}'


class WaitRig(PushRig):
    """A rig whose node answers as a test says."""

    def waiting(self, **headers: str) -> "asyncio.Task[PushAnswer]":
        return asyncio.create_task(self.push(None, None, Prefer="wait=10", **headers))

    async def sending(self) -> SendRecord:
        await turns(20)
        record = self.next()
        assert record is not None
        return record

    async def end(self, record: SendRecord, answer: Answer | None, outcome: Outcome) -> None:
        if answer is not None:
            self.node_answers.answered(record, answer)
        node_id = answer.message_id if answer is not None else ""
        await self.settler.settle(record, outcome, node_id, "HTTP 400 (1013): no user")


async def test_the_answer_is_the_node_s_own() -> None:
    rig = WaitRig()
    pushing = rig.waiting()
    record = await rig.sending()
    assert not pushing.done()
    await rig.end(record, Answer(201, "wa1", body=TAKEN), Outcome.DELIVERED)
    answer = await pushing
    assert (answer.status, answer.body) == (201, TAKEN)
    assert answer.headers == {"Preference-Applied": "wait=10"}
    assert len(rig.node_answers) == 0


async def test_a_refusal_of_the_node_is_told_as_it_is_after_the_last_attempt() -> None:
    rig = WaitRig()
    pushing = rig.waiting()
    record = await rig.sending()
    rig.node_answers.answered(record, Answer(500, body=b"try again"))
    await turns()
    assert not pushing.done()
    await rig.end(record, Answer(400, code=1013, body=b"no user"), Outcome.FAILED)
    answer = await pushing
    assert (answer.status, answer.body) == (400, b"no user")


@pytest.mark.parametrize(
    ("outcome", "status"), [(Outcome.CANCELLED, 409), (Outcome.EXPIRED, 410), (Outcome.FAILED, 504)]
)
async def test_an_end_without_an_answer_is_told_in_the_dialect_s_shape(outcome: Outcome, status: int) -> None:
    rig = WaitRig()
    pushing = rig.waiting()
    await rig.end(await rig.sending(), None, outcome)
    answer = await pushing
    assert answer.status == status
    assert len(json.loads(answer.body)["errors"]) == 1


async def test_a_cancelled_send_answers_whoever_waits_for_it() -> None:
    rig = WaitRig()
    pushing = rig.waiting()
    await turns(20)
    assert (await rig.changes.cancel(rig.store.send_id(1))).status == 200
    assert (await pushing).status == 409


def test_202_comes_when_the_time_is_over_and_not_before() -> None:
    async def main() -> None:
        rig = WaitRig()
        loop = virtual_loop()
        before_ns = loop.now_ns()
        answer = await rig.waiting()
        assert loop.now_ns() - before_ns == 10 * 10**9
        assert (answer.status, answer.headers) == (202, {"Preference-Applied": "wait=10"})
        assert len(rig.node_answers) == 0
        record = await rig.sending()
        await rig.end(record, Answer(201, "wa1", body=TAKEN), Outcome.DELIVERED)
        assert await rig.state(record.id) == "sent"

    run_virtual(main())


def test_without_the_header_it_waits_as_the_setting_says() -> None:
    async def main() -> None:
        rig = WaitRig(wait_ms=2_000)
        loop = virtual_loop()
        before_ns = loop.now_ns()
        answer = await rig.push()
        assert (answer.status, answer.headers) == (202, {})
        assert loop.now_ns() - before_ns == 2 * 10**9
        assert (await rig.push(Prefer="wait=0")).status == 202
        assert loop.now_ns() - before_ns == 2 * 10**9

    run_virtual(main())


async def test_a_client_that_goes_away_changes_nothing() -> None:
    rig = WaitRig()
    pushing = rig.waiting()
    record = await rig.sending()
    pushing.cancel()
    await turns()
    assert len(rig.node_answers) == 0
    await rig.end(record, Answer(201, "wa1", body=TAKEN), Outcome.DELIVERED)
    assert (await rig.state(record.id), rig.difference()) == ("sent", 0)


async def test_two_requests_with_one_key_get_the_same_answer_and_a_late_one_202() -> None:
    rig = WaitRig()
    pushing = [rig.waiting(Idempotency_Key="k") for _ in range(2)]
    record = await rig.sending()
    await rig.end(record, Answer(201, "wa1", body=TAKEN), Outcome.DELIVERED)
    assert [(await task).body for task in pushing] == [TAKEN] * 2
    late = rig.waiting(Idempotency_Key="k")
    await turns(30)
    assert late.done(), "it has ended: there is nothing to wait for"
    assert (await late).status == 202
    assert json.loads((await late).body)["messages"][0]["id"] == record.id


async def test_a_stop_lets_all_go_with_202() -> None:
    rig = WaitRig(clock=FakeClock())
    pushing = [rig.waiting() for _ in range(3)]
    await turns(20)
    rig.node_answers.drain()
    assert [(await task).status for task in pushing] == [202] * 3
