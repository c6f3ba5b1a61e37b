"""The log: one record, one line, never in the way."""

import contextlib
import json
import logging
import os
import pty
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.ops.logs import Log, configure
from gateway.ops.logs.lines import EXCEPTION_CHARACTERS_MAX, MESSAGE_CHARACTERS_MAX, renderer
from gateway.ops.logs.writer import LineWriter

logger = logging.getLogger("gateway.test")


class Pipe:
    """A pipe in place of standard output."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def read_all(self) -> bytes:
        """All that was written, once nobody writes any more."""
        os.close(self.write_end)
        with open(self.read_end, "rb", closefd=False) as stream:
            return stream.read()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for fd in (pipe.read_end, pipe.write_end):
        with contextlib.suppress(OSError):  # a test may have closed it
            os.close(fd)


def rendered(
    message: str, *args: Any, is_json: bool = True, shows_content: bool = False, **extra: Any
) -> str:
    record = logger.makeRecord(logger.name, logging.INFO, "f.py", 1, message, args, None, extra=extra)
    record.created = 1_700_000_000.25
    return renderer(is_json=is_json, has_priority=False, shows_content=shows_content)(record).decode()


def test_a_line_of_json_has_time_level_logger_message_and_fields() -> None:
    assert json.loads(rendered("sent %s", "it", attempt=2)) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "gateway.test",
        "message": "sent it",
        "attempt": 2,
    }


def test_a_line_of_text_has_the_same() -> None:
    line = rendered("sent %s", "it", attempt=2, is_json=False)
    assert line == "2023-11-14T22:13:20.250Z INFO    gateway.test sent it attempt=2\n"


@pytest.mark.parametrize("is_json", [True, False])
def test_a_message_from_outside_stays_on_its_line_and_commands_no_terminal(is_json: bool) -> None:
    line = rendered("a\nb\r\x1b[2J\u2028", field="c\nd", is_json=is_json)
    assert line.endswith("\n")
    assert len(line.encode().splitlines()) == 1
    assert "\x1b" not in line


def test_a_field_does_not_replace_what_every_line_has() -> None:
    assert json.loads(rendered("sent", level="x", time="y"))["level"] == "info"


@pytest.mark.parametrize("value", [2**80, "\ud800", b"\xff", {1, 2}, object(), float("nan")])
@pytest.mark.parametrize("is_json", [True, False])
def test_a_field_of_any_kind_is_written_somehow(value: object, is_json: bool) -> None:
    line = rendered("sent", thing=value, is_json=is_json)
    assert "thing" in line
    assert not is_json or json.loads(line)["message"] == "sent"


def test_arguments_that_do_not_fit_still_make_a_line() -> None:
    assert "do not fit" in json.loads(rendered("%d", "x"))["message"]


def test_a_long_message_and_a_long_traceback_are_cut() -> None:
    def raises_long() -> None:
        raise ValueError("x" * 100_000)

    try:
        raises_long()
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logger.makeRecord("a", logging.ERROR, "f.py", 1, "y" * 100_000, (), info)
    line = json.loads(renderer(is_json=True, has_priority=False, shows_content=False)(record))
    assert len(line["message"]) == MESSAGE_CHARACTERS_MAX + 1
    assert len(line["exception"]) == EXCEPTION_CHARACTERS_MAX + 1


def test_an_exception_is_on_the_line_of_its_message(pipe: Pipe) -> None:
    log = configure("text", "info", shows_content=False, fd=pipe.write_end)
    try:
        int("broken")
    except ValueError:
        logger.exception("failed")
    log.stop()
    [line] = pipe.read_all().splitlines()
    assert b"failed Traceback (most recent call last):\\n" in line
    assert line.endswith(b"ValueError: invalid literal for int() with base 10: 'broken'")


def run(pipe: Pipe, act: Callable[[], None], **options: Any) -> bytes:
    """What `act` logs."""
    arguments: dict[str, Any] = {
        "log_format": "auto",
        "level": "info",
        "shows_content": False,
        "fd": pipe.write_end,
    }
    log = configure(**arguments | options)
    try:
        act()
    finally:
        log.stop()
    return pipe.read_all()


def test_what_is_below_the_level_is_not_written(pipe: Pipe) -> None:
    def log_twice() -> None:
        logger.info("a")
        logger.warning("b")

    written = run(pipe, log_twice, level="warning")
    assert [json.loads(line)["message"] for line in written.splitlines()] == ["b"]


def test_auto_is_json_away_from_a_terminal(pipe: Pipe) -> None:
    assert run(pipe, lambda: logger.info("a")).startswith(b'{"time":')


def test_auto_is_text_on_a_terminal() -> None:
    master, slave = pty.openpty()
    log = configure("auto", "info", shows_content=False, fd=slave)
    logger.info("a")
    log.stop()
    assert os.read(master, 4_096).endswith(b"Z INFO    gateway.test a\r\n")
    os.close(master)
    os.close(slave)


def test_each_line_has_its_priority_when_journald_reads(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.fstat(pipe.write_end)
    monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")

    def log_each_level() -> None:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logger.log(level, "a")

    written = run(pipe, log_each_level, level="debug")
    assert [line[:4] for line in written.splitlines()] == [b"<7>{", b"<6>{", b"<4>{", b"<3>{", b"<2>{"]


def test_a_stream_that_only_inherited_the_journals_name_has_no_priority(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert run(pipe, lambda: logger.info("a")).startswith(b"{")


def test_stop_gives_the_root_logger_back(pipe: Pipe) -> None:
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    log = configure("json", "debug", shows_content=False, fd=pipe.write_end)
    assert [type(handler) for handler in root.handlers] == [Log]
    log.stop()
    log.stop()
    assert (root.level, root.handlers) == before


def test_a_reader_that_stalls_costs_lines_and_never_time(pipe: Pipe) -> None:
    line = b"x" * 65_536 + b"\n"  # more than a pipe holds: the first write blocks the thread
    writer = LineWriter(pipe.write_end, lines_max=10)
    for _ in range(200):
        writer.put(line)
    assert writer.dropped > 0

    # What was not dropped arrives once somebody reads again, whole and in order.
    read = read_beside(pipe, lambda: writer.stop(timeout_s=30))
    assert read == line * (200 - writer.dropped)


def read_beside(pipe: Pipe, act: Callable[[], None]) -> bytes:
    """What the pipe carries while `act` runs and until it has closed it."""
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.extend(iter(lambda: os.read(pipe.read_end, 1 << 20), b"")))
    reader.start()
    act()
    os.close(pipe.write_end)
    reader.join()
    return b"".join(read)


def test_a_descriptor_made_non_blocking_by_others_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_end, False)
    line = b"x" * 65_536 + b"\n"
    writer = LineWriter(pipe.write_end)
    for _ in range(20):
        writer.put(line)
    assert read_beside(pipe, lambda: writer.stop(timeout_s=30)) == line * 20


def test_lines_nobody_can_read_any_more_are_counted(pipe: Pipe) -> None:
    os.close(pipe.read_end)
    writer = LineWriter(pipe.write_end)
    writer.put(b"a\n")
    writer.stop(timeout_s=30)
    writer.put(b"b\n")
    assert writer.dropped == 2
