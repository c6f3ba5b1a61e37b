"""Watches a run: scrapes the gateway twice a second, keeps every sample, shows one line of progress."""

import asyncio
import shutil
from collections.abc import Callable
from typing import Final, TextIO

import aiohttp

from gateway.clock import NS_PER_S, Clock
from gateway.events import TpsKind
from gateway.sim.exposition import Exposition
from gateway.sim.facts import Sample
from gateway.sim.node import SimNode

INTERVAL_S: Final = 0.5
SAMPLES_MAX: Final = 20_000
"""Nearly three hours of samples; then the run has lost its point and says so."""


class Watch:
    """Samples of one run. A gateway that does not answer is skipped: it may be restarting."""

    def __init__(
        self, session: aiohttp.ClientSession, metrics_url: str, node: SimNode, clock: Clock, out: TextIO
    ) -> None:
        self._session = session
        self._metrics_url = metrics_url
        self._node = node
        self._clock = clock
        self._out = out
        self._is_terminal = out.isatty()
        self.samples: list[Sample] = []

    async def sample(self) -> Exposition | None:
        """Scrape once. None: no answer."""
        assert len(self.samples) < SAMPLES_MAX, "the run does not end"
        try:
            async with self._session.get(self._metrics_url) as response:
                text = await response.text()
                if response.status != 200:
                    return None
        except (TimeoutError, aiohttp.ClientError):
            return None
        metrics = Exposition(text)
        self.samples.append(Sample(self._clock.now_ns(), metrics))
        return metrics

    async def run(self, phase_name: Callable[[int], str]) -> None:
        """Sample and show until cancelled; on a terminal the line is rewritten, elsewhere one a second."""
        begin_ns = self._clock.now_ns()
        ticks = 0
        while True:
            metrics = await self.sample()
            now_ns = self._clock.now_ns()
            if self._is_terminal or ticks % round(1 / INTERVAL_S) == 0:
                self._show((now_ns - begin_ns) / NS_PER_S, phase_name(now_ns), metrics)
            ticks += 1
            await asyncio.sleep(INTERVAL_S)

    def end_line(self) -> None:
        """Leave the rewritten line."""
        if self._is_terminal:
            print(file=self._out)

    def _show(self, at_s: float, phase: str, metrics: Exposition | None) -> None:
        number = self._node.number.statistics()
        at_whatsapp = f"WhatsApp {number.backlog} {number.oldest_wait_ns / NS_PER_S:.1f} s"
        line = f"{at_s:5.1f} s {phase:<8} {_numbers(metrics)} | {at_whatsapp}"
        if self._is_terminal:
            # Cut, for a line that wraps cannot be rewritten.
            line = line[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[2K{line}", end="", file=self._out, flush=True)
        else:
            print(line, file=self._out, flush=True)


def _numbers(metrics: Exposition | None) -> str:
    """TPS used of the limit and by kind (receive, send, delivered, read), what waits, what is through."""
    if metrics is None:
        return "the gateway is away"
    used = metrics.by("kind", "gateway_tps_used")
    kinds = " ".join(f"{kind.label[0]}{used.get(kind.label, 0):.0f}" for kind in TpsKind)
    limit = metrics.total("gateway_tps_limit")
    waiting = metrics.by("kind", "gateway_waiting")
    sends = waiting.pop("send", 0)
    done = metrics.total("gateway_outcome_total", {"outcome": "delivered"})
    return (
        f"{sum(used.values()):3.0f}/{limit:.0f} TPS {kinds:<15} | waiting in {sum(waiting.values()):.0f} "
        f"out {sends:.0f} | through {done:.0f}"
    )
