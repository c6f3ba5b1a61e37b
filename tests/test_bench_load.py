"""The load of the benchmarks: what makes its numbers honest."""

import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

MACRO = Path(__file__).parents[1] / "bench" / "macro"
EVENTS = 10_000
HELD_S = 0.15


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which is none of a package."""
    monkeypatch.syspath_prepend(str(MACRO))
    __import__("load")
    return sys.modules["load"]


@pytest.fixture
def loads(load: Any, tmp_path: Path) -> Iterator[Any]:
    with load.Loads(tmp_path, 0, EVENTS) as made:
        yield made


@contextmanager
def server(statuses: list[int], held_s: float = 0.0) -> Iterator[int]:
    """Answers 200, or first what `statuses` says; answers are held until so long after the first request."""
    held = threading.Event()
    timer = threading.Timer(held_s, held.set)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if held_s:
                if timer.ident is None:
                    timer.start()
                held.wait()
            self.send_response(statuses.pop(0) if statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    try:
        yield made.server_port
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def request(load: Any) -> Any:
    return load.post("/webhook", load.webhook_body())


def due_gaps(loads: Any, loaded: Any) -> list[int]:
    meant = loads._part(0, loaded)
    return [after - before for before, after in itertools.pairwise(meant)]


def test_an_open_loop_is_due_at_the_same_times_whatever_the_server_does(load: Any, loads: Any) -> None:
    """The one connection is busy until the server lets go, and what was due meanwhile has waited since then."""
    with server([]) as port:
        quick = loads.run(port, request(load), 4, rate=200.0, seconds=0.2)
    with server([], HELD_S) as port:
        stuck = loads.run(port, request(load), 1, rate=200.0, seconds=0.2)
    assert due_gaps(loads, quick) == due_gaps(loads, stuck)
    assert stuck.told["backlog_max"] > 0
    waited = loads.answer_ms(stuck)
    assert len(waited) == stuck.end - stuck.first
    assert waited[-1] >= HELD_S * 1000


def test_another_answer_is_counted_and_not_taken_for_served(load: Any, loads: Any) -> None:
    with server([503, 200, 404]) as port:
        loaded = loads.run(port, request(load), 1, count=5)
    assert loaded.ok == 3
    assert loaded.failures == {"wrong": 2, "status 404": 1, "status 503": 1}
    with pytest.raises(RuntimeError, match=r"the server: .*503"):
        loaded.require_ok("the server")


def test_an_event_that_was_answered_and_is_not_at_the_backend_is_missing(load: Any, loads: Any) -> None:
    with server([]) as port:
        loaded = loads.run(port, request(load), 2, count=7)
    assert loads.missing(loaded) == 7
    loads.start_sink()
    loads.next_id = loaded.first
    again = loads.run(loads.sink_port, request(load), 2, count=4)
    assert (again.first, again.ok) == (loaded.first, 4)
    assert loads.missing(loaded) == 3
    assert loads.duplicates() == 0


def test_the_backend_knows_an_event_that_comes_twice(load: Any, loads: Any) -> None:
    loads.start_sink()
    loads.run(loads.sink_port, request(load), 1, count=3)
    loads.next_id = 1
    loads.run(loads.sink_port, request(load), 1, count=2)
    assert (loads.requests(), loads.duplicates()) == (5, 2)
