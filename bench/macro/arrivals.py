"""What happens to a number, on a timetable that waits for nobody: messages of customers, and receipts of groups.

An event counts from the moment it was due, however late this process or anybody else comes to it (no coordinated
omission). Times are monotonic ns; ids are unique in the process.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from gateway.clock import NS_PER_MS, NS_PER_S
from gateway.events import Kind
from gateway.sim import bodies
from gateway.sim.journal import Callback

_numbers = itertools.count(1)
MEMBERS: Final = 256
GROUPS: Final = 10


def message(due_ns: int) -> Callback:
    """A text of a customer, of a few hundred customers."""
    number = next(_numbers)
    sender = str(15550100000 + number % 500)
    item = bodies.message(f"ABGGbench{number:012}", sender, bodies.text("Is it still there?"), _wall_ms())
    return Callback(Kind.MESSAGE, item["id"], sender, item, bodies.contact(sender), due_ns)


def receipt(due_ns: int, message_id: str, recipient: str, kind: Kind, group: str = "") -> Callback:
    """A status of one recipient."""
    item = bodies.status(message_id, recipient, kind.label, _wall_ms(), group)
    return Callback(kind, message_id, recipient, item, None, due_ns)


def messages(begin_ns: int, seconds: float, rate: float, rng: random.Random) -> list[Callback]:
    """Messages at random moments (Poisson), `rate` a second in the mean."""
    made = []
    due_ns = begin_ns
    while (due_ns := due_ns + int(rng.expovariate(rate) * NS_PER_S)) < begin_ns + seconds * NS_PER_S:
        made.append(message(due_ns))
    return made


def storm(begin_ns: int, rng: random.Random) -> list[Callback]:
    """One message to ten groups of 256: each member's phone says delivered, at some moment of one second."""
    made = []
    for group in range(GROUPS):
        message_id = f"gBEGbench{next(_numbers):012}"
        for member in range(MEMBERS):
            due_ns = begin_ns + rng.randrange(NS_PER_S)
            recipient = str(15550200000 + 1000 * group + member)
            made.append(
                receipt(due_ns, message_id, recipient, Kind.DELIVERED, f"15550100999-{1600000000 + group}")
            )
    return made


def receipts_of_sends(begin_ns: int, seconds: float, rate: float) -> Iterator[Callback]:
    """Receipts of messages to single customers, evenly: each message is sent, delivered and read at once."""
    for number in range(int(seconds * rate)):
        due_ns = begin_ns + int(number / rate * NS_PER_S)
        kind = (Kind.SENT, Kind.DELIVERED, Kind.READ)[number % 3]
        if kind is Kind.SENT:
            message_id, recipient = f"gBEGbench{next(_numbers):012}", str(15550300000 + number % 5000)
        yield receipt(due_ns, message_id, recipient, kind)


async def play(events: Iterable[Callback], offer: Callable[[Callback], None]) -> None:
    """Offer each event when it is due; after a stall all that are overdue at once."""
    timetable = sorted(events, key=lambda event: event.made_ns)
    at = 0
    while at < len(timetable):
        now_ns = time.monotonic_ns()
        while at < len(timetable) and timetable[at].made_ns <= now_ns:
            offer(timetable[at])
            at += 1
        if at < len(timetable):
            # A timer of the loop has whole milliseconds; events of one are offered together.
            await asyncio.sleep(max(NS_PER_MS, timetable[at].made_ns - now_ns) / NS_PER_S)


def _wall_ms() -> int:
    return time.time_ns() // NS_PER_MS
