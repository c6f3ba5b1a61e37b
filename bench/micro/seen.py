"""What it costs to know whether an event has come before, with 100,000 remembered: a new one, and one that is known.

Beside the usual containers with the same bound: an OrderedDict, cachetools' FIFOCache and TTLCache; a set, which has
none and only grows; and rbloom's Bloom filter, which forgets nothing and errs. Ours counts with the keyed hash that it
needs; theirs hash the string by themselves.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import compare
from cachetools import FIFOCache, TTLCache
from rbloom import Bloom

from gateway._fast.seen import SeenSet, fingerprint_str

HELD: Final = 100_000
SECRET: Final = bytes(range(16))


def _key(number: int) -> str:
    return f"ABGGFlA5FpafAgo6tHcNmNjXmuSf-{number:012}"


OLD: Final = [_key(number) for number in range(HELD)]


class Ours:
    def __init__(self) -> None:
        self.seen = SeenSet(HELD)

    def __call__(self, key: str) -> bool:
        return self.seen.add(fingerprint_str(key, SECRET))


class Ordered:
    def __init__(self) -> None:
        self.seen: OrderedDict[str, None] = OrderedDict()

    def __call__(self, key: str) -> bool:
        if key in self.seen:
            return False
        self.seen[key] = None
        if len(self.seen) > HELD:
            self.seen.popitem(last=False)
        return True


class Cached:
    """With one of cachetools'."""

    def __init__(self, made: "FIFOCache[str, None] | TTLCache[str, None]") -> None:
        self.seen = made

    def __call__(self, key: str) -> bool:
        if key in self.seen:
            return False
        self.seen[key] = None
        return True


class Plain:
    def __init__(self) -> None:
        self.seen: set[str] = set()

    def __call__(self, key: str) -> bool:
        if key in self.seen:
            return False
        self.seen.add(key)
        return True


class Bloomed:
    def __init__(self) -> None:
        self.seen = Bloom(HELD, 0.001)

    def __call__(self, key: str) -> bool:
        if key in self.seen:
            return False
        self.seen.add(key)
        return True


class Rows:
    """Each is full when it is measured; what is new pushes out the oldest."""

    def __init__(self) -> None:
        self._made: dict[str, Callable[[str], bool]] = {
            "SeenSet.add": Ours(),
            "OrderedDict": Ordered(),
            "cachetools.FIFOCache": Cached(FIFOCache(HELD)),
            "cachetools.TTLCache": Cached(TTLCache(HELD, 86_400)),
            "a set, unbounded": Plain(),
            "rbloom.Bloom, unbounded and inexact": Bloomed(),
        }
        self._next = dict.fromkeys(self._made, HELD)
        self._is_full: set[str] = set()

    def names(self) -> list[str]:
        return list(self._made)

    def new(self, name: str, count: int) -> int:
        self._fill(name)
        first = self._next[name]
        self._next[name] += count
        return compare.timed(self._made[name], [_key(number) for number in range(first, first + count)])

    def known(self, name: str, count: int) -> int:
        self._fill(name)
        last = self._next[name]
        return compare.timed(self._made[name], [_key(number) for number in range(last - count, last)])

    def _fill(self, name: str) -> None:
        if name not in self._is_full:
            self._is_full.add(name)
            for key in OLD:
                self._made[name](key)


ROWS: Final = Rows()
GROUPS: Final = {
    "new": {name: lambda count, name=name: ROWS.new(name, count) for name in ROWS.names()},
    "known": {name: lambda count, name=name: ROWS.known(name, count) for name in ROWS.names()},
}

if __name__ == "__main__":
    compare.main(__doc__, GROUPS, ["cachetools", "rbloom"], 20_000)
