"""The monitor looks ten times a second while there is something to look at, tells what is shed, and sleeps."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from virtual_time import run_virtual, virtual_loop

from gateway.clock import NS_PER_S
from gateway.dialects.webhook import Event
from gateway.events import InboundClass, Kind, ReceiptMask
from gateway.inbound.admit import Gatekeeper, Reason
from gateway.inbound.monitor import PRESSED_SLEEP_S, QUIET_LOOKS, Monitor
from gateway.overload.ladder import THRESHOLDS, Ladder, Policies, Rung
from gateway.overload.pressure import INTERVAL_NS, Pressure, Sample

LOOK_S = INTERVAL_NS / NS_PER_S


def event(kind: Kind, cls: InboundClass = InboundClass.RECEIPT, *, is_group: bool = False) -> Event:
    return Event(kind, cls, "k", "491", (0, 0, "statuses", 0), is_group=is_group, message_id="m1")


class Watched:
    """A monitor at work, with pressure and work as the test says."""

    def __init__(self) -> None:
        loop = virtual_loop()
        self.disk_fill = 0.0
        self.works = False
        self.ladder = Ladder(Policies(), loop.now_ns())
        self.gatekeeper = Gatekeeper(self.ladder, lambda _: ReceiptMask.ALL, lambda _: False)
        self.late_ms: list[float] = []
        self.monitor = Monitor(Pressure(3_600_000), self.gatekeeper, self._look, lambda: self.works, loop)
        self.looks: list[tuple[float, Rung]] = []
        self.monitor.on_look = lambda figure, _now_ns: self.looks.append((figure, self.ladder.rung))
        self._task = asyncio.create_task(self.monitor.work())

    def _look(self, late_ms: float) -> Sample:
        self.late_ms.append(late_ms)
        return Sample(disk_fill=self.disk_fill)

    async def fall_asleep(self) -> None:
        """A start looks for a while, since there may be work from before."""
        await asyncio.sleep(QUIET_LOOKS * LOOK_S + 1)
        assert len(self.looks) == QUIET_LOOKS - 1
        self.looks.clear()
        self.late_ms.clear()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def watched(story: Callable[[Watched], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test in virtual time."""

    def test() -> None:
        async def main() -> None:
            subject = Watched()
            await subject.fall_asleep()
            await story(subject)
            await subject.stop()

        run_virtual(main())

    test.__name__, test.__doc__ = story.__name__, story.__doc__
    return test


def test_what_a_start_finds_on_disk_is_looked_at_without_a_webhook() -> None:
    async def main() -> None:
        subject = Watched()
        subject.works = True
        subject.disk_fill = 0.9
        await asyncio.sleep(10)
        assert len(subject.looks) == pytest.approx(100, abs=1)
        assert not subject.ladder.is_at_rest
        await subject.stop()

    run_virtual(main())


@watched
async def test_without_work_it_never_wakes_up(subject: Watched) -> None:
    before = virtual_loop().virtual.jumps
    await asyncio.sleep(24 * 3_600)
    assert subject.looks == []
    assert virtual_loop().virtual.jumps == before + 1


@watched
async def test_a_webhook_wakes_it_and_it_sleeps_again(subject: Watched) -> None:
    await asyncio.sleep(60)
    subject.monitor.wake()
    await asyncio.sleep(LOOK_S * 1.01)
    assert len(subject.looks) == 1
    await asyncio.sleep(3_600)
    assert len(subject.looks) == QUIET_LOOKS


@watched
async def test_each_webhook_puts_its_sleep_off(subject: Watched) -> None:
    for _ in range(10):
        subject.monitor.wake()
        await asyncio.sleep(QUIET_LOOKS * LOOK_S / 2)
    assert len(subject.looks) == pytest.approx(10 * QUIET_LOOKS / 2, abs=10)


@watched
async def test_while_something_waits_it_looks_ten_times_a_second(subject: Watched) -> None:
    subject.works = True
    subject.monitor.wake()
    await asyncio.sleep(60)
    assert len(subject.looks) == pytest.approx(600, abs=1)
    subject.works = False
    await asyncio.sleep(3_600)
    assert len(subject.looks) == pytest.approx(600 + QUIET_LOOKS, abs=2)


@watched
async def test_the_loop_lags_by_the_less_of_two_late_looks(subject: Watched) -> None:
    """One that comes late by itself was a hiccup, and is over when it is seen."""
    subject.monitor.wake()
    await asyncio.sleep(LOOK_S * 1.5)
    for stall_s in (5, 3):
        virtual_loop().virtual.now_ns += stall_s * NS_PER_S
        await asyncio.sleep(LOOK_S * 0.6)
    await asyncio.sleep(LOOK_S)
    assert subject.late_ms[:4] == [
        pytest.approx(0, abs=1e-3),
        pytest.approx(0, abs=1e-3),
        pytest.approx(2_960, abs=11),
        pytest.approx(0, abs=1e-3),
    ]


@watched
async def test_the_ladder_comes_back_to_rest_before_it_sleeps(subject: Watched) -> None:
    subject.disk_fill = 0.945
    subject.monitor.wake()
    await asyncio.sleep(1)
    subject.disk_fill = 0.0
    await asyncio.sleep(60)
    rungs = list(dict.fromkeys(rung for _, rung in subject.looks))
    assert rungs == sorted(rungs, reverse=True)
    assert rungs[-1] is Rung.FORWARD
    assert rungs[0] >= Rung.SHED_READ
    count = len(subject.looks)
    await asyncio.sleep(3_600)
    assert len(subject.looks) == count


@watched
async def test_on_a_rung_it_sleeps_with_one_eye_open(subject: Watched) -> None:
    """The disk stays full while nothing comes, and is cleaned up: the next receipt must not be shed for what was."""
    subject.disk_fill = 0.9
    subject.monitor.wake()
    await asyncio.sleep(QUIET_LOOKS * LOOK_S + 1)
    before = len(subject.looks)
    await asyncio.sleep(10 * PRESSED_SLEEP_S)
    assert len(subject.looks) - before == pytest.approx(10, abs=1)
    assert not subject.ladder.is_at_rest
    subject.disk_fill = 0.0
    await asyncio.sleep(PRESSED_SLEEP_S + 2 * len(Rung))
    assert subject.ladder.is_at_rest
    count = len(subject.looks)
    await asyncio.sleep(3_600)
    assert len(subject.looks) == count


def test_shedding_is_told_once_a_second_for_each_class_with_its_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What masks and policies drop is as the operator asked, and not told."""

    async def main() -> None:
        subject = Watched()
        subject.works = True
        subject.monitor.wake()
        for _ in range(50):
            for reason in Reason:
                subject.gatekeeper.count(event(Kind.READ), reason)
            for _ in range(2):
                subject.gatekeeper.count(event(Kind.READ, is_group=True), Reason.OVERLOAD)
            await asyncio.sleep(0.05)
        subject.works = False
        await asyncio.sleep(60)
        await subject.stop()

    with caplog.at_level(logging.WARNING):
        run_virtual(main())
    lines = [record for record in caplog.records if record.getMessage() == "receipts shed"]
    told: dict[tuple[str, str], list[int]] = {}
    for line in lines:
        said = vars(line)
        told.setdefault((said["class"], said["reason"]), []).append(said["count"])
    assert {place: sum(counts) for place, counts in told.items()} == {
        ("read", "overload"): 50, ("read", "age"): 50, ("group_read", "overload"): 100,
    }  # fmt: skip
    assert all(len(counts) == 3 for counts in told.values())  # in 2.5 s


def test_a_change_of_the_rung_is_told_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        subject = Watched()
        subject.disk_fill = 0.5 + 0.45 * THRESHOLDS[Rung.DIGEST] + 0.001
        subject.monitor.wake()
        await asyncio.sleep(1)
        subject.disk_fill = 0.0
        await asyncio.sleep(60)
        await subject.stop()

    with caplog.at_level(logging.INFO):
        run_virtual(main())
    told = [
        (record.getMessage(), vars(record)["before"], vars(record)["rung"], vars(record)["cause"])
        for record in caplog.records
    ]
    assert told == [
        ("receipts give way", "forward", "digest", "disk"),
        ("receipts give way", "digest", "fold", ""),
        ("receipts give way", "fold", "batch", ""),
        ("receipts pass again", "batch", "forward", ""),
    ]
