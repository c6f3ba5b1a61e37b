"""The gateway as a process: logs, event loop, signals, exit status."""

import asyncio
import gc
import logging
import random
import signal
import ssl
from typing import Final

import uvloop

from gateway.app.lifecycle import Gateway
from gateway.clock import SystemClock
from gateway.config import Settings
from gateway.errors import EXIT_CONFIG, EXIT_STORE, StoreError
from gateway.ops.logs import Log, configure
from gateway.ops.memory import set_large_apart

log = logging.getLogger(__name__)

EXIT_FAILED: Final = 1

GC_THRESHOLD: Final = (10_000, 50, 100)
"""What an event leaves behind is freed as it goes, without a collector: looked for every 700 objects, as is usual, cycles
that are not there cost 4 % of the time. 10,000 are looked through in half a millisecond."""


def run(settings: Settings) -> int:
    """Run a gateway until SIGTERM or SIGINT; the exit status.

    0 drained · 74 the store failed or is in use (see the log; a restart recovers) · 78 a certificate can't be
    used · 1 a listener can't be bound.
    """
    logs = configure(settings.log_format, settings.log_level, shows_content=settings.log_content)
    set_large_apart()
    # Modules live as long as the process: looking for garbage among their 43,000 objects stopped the loop for 10 ms when
    # idle and for 20 to 28 ms in the storms of bench/macro/storm.py.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(settings, logs))
    finally:
        logs.stop()


async def _serve(settings: Settings, logs: Log) -> int:
    gateway = Gateway(settings, SystemClock(), random.Random(), logs)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stop)
    try:
        await gateway.run()
    except StoreError as error:
        log.critical("%s", error)
        return EXIT_STORE
    except ssl.SSLError as error:
        log.critical("a certificate can't be used: %s", error)
        return EXIT_CONFIG
    except OSError as error:
        log.critical("can't start: %s", error)
        return EXIT_FAILED
    return EXIT_STORE if gateway.failure is not None else 0
