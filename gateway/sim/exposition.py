"""Reads Prometheus text exposition, as much of it as the gateway writes: names, labels, values."""

import re
from collections.abc import Mapping
from typing import Final

_LINE: Final = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"\s*,?\s*')
_ESCAPE: Final = re.compile(r"\\(.)")

Labels = Mapping[str, str]
NO_LABELS: Final[Labels] = {}


class Exposition:
    """One scrape. A name that was not exported is absent, which is not the same as zero: ask `has`."""

    def __init__(self, text: str) -> None:
        """ValueError names the first line that is not exposition."""
        self._series: dict[str, list[tuple[dict[str, str], float]]] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, labels, value = _parse(line)
                self._series.setdefault(name, []).append((labels, value))

    def has(self, name: str) -> bool:
        return name in self._series

    def series(self, name: str, where: Labels = NO_LABELS) -> list[tuple[dict[str, str], float]]:
        """The samples of `name` whose labels contain `where`."""
        return [
            (labels, value) for labels, value in self._series.get(name, ()) if where.items() <= labels.items()
        ]

    def total(self, name: str, where: Labels = NO_LABELS) -> float:
        """Their sum; 0 where there is none."""
        return sum(value for _, value in self.series(name, where))

    def by(self, label: str, name: str, where: Labels = NO_LABELS) -> dict[str, float]:
        """Their sums by one label."""
        sums: dict[str, float] = {}
        for labels, value in self.series(name, where):
            key = labels.get(label, "")
            sums[key] = sums.get(key, 0.0) + value
        return sums


def _parse(line: str) -> tuple[str, dict[str, str], float]:
    match = _LINE.match(line.strip())
    if match is None:
        raise ValueError(f"not a line of exposition: {line!r}")
    name, inside, value = match.groups()
    labels = {key: _ESCAPE.sub(_unescape, raw) for key, raw in _LABEL.findall(inside or "")}
    return name, labels, float(value)


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
