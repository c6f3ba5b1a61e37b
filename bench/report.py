"""Tables and plots of the recorded results: into bench/README.md, README.md, and results/*.png.

A table stands between `<!-- name -->` and `<!-- /name -->`; what is outside is written by hand and stays. A result that
has not been recorded leaves its table as it is.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import plots

BENCH: Final = Path(__file__).resolve().parent
RESULTS: Final = BENCH / "results"
PAGES: Final = (BENCH / "README.md", BENCH.parent / "README.md")
WITH_TARGETS: Final = ("ingest", "relay", "waiting")
MICRO: Final = ("bucket", "window", "rings", "seen", "decode")

Result = dict[str, Any]
Results = dict[str, Result]


def read(directory: Path) -> Results:
    """All that has been recorded, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, the first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    assert all(len(line) == len(head) for line in lines), lines
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def source(result: Result) -> str:
    """On what it was measured."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    absent = "".join(f" Missing: {name} ({reason})." for name, reason in result.get("missing", {}).items())
    return (
        f"{result['date']}; {result['machine']}; {result['python']}; {versions}; "
        f"load at the start {result['load_1min_at_start']}.{absent}"
    )


def figure(value: float | None, unit: str) -> str:
    if value is None:
        return "not measured"
    return f"{value:+.0%}" if not unit else f"{value:,.3g} {unit}"


def targets(results: Results) -> str:
    """Of all results that have some."""
    rows = []
    for name in WITH_TARGETS:
        for target in results.get(name, {}).get("targets", ()):
            verdict = {True: "met", False: "**missed**", None: "-"}[target["is_met"]]
            bound = "≥ " if target["at_least"] else "≤ "
            bound += (
                f"{target['bound']:.0%}" if not target["unit"] else f"{target['bound']:g} {target['unit']}"
            )
            rows.append([target["what"], bound, figure(target["value"], target["unit"]), verdict])
    return table(["target", "bound", "measured", ""], rows)


def ingest(results: Results) -> str:
    """Requests a second by connections; CPU and p99 at the most usual number."""
    result = results["ingest"]
    counts = sorted({row["connections"] for row in result["rows"]})
    by_place = {(row["server"], row["connections"]): row for row in result["rows"]}
    shown = 24 if 24 in counts else counts[-1]
    rows = []
    for server in dict.fromkeys(row["server"] for row in result["rows"]):
        at = by_place[server, shown]
        rates = [f"{by_place[server, count]['per_s']:,}" for count in counts]
        span = f"{at['per_s_low']:,} to {at['per_s_high']:,}"
        rows.append(
            [
                server,
                *rates,
                span,
                f"{at['cpu_us']:.1f}",
                f"{at['p99_ms']:.1f}",
                f"{at['cpu_wait']:.0%}",
                f"{at['load_busy']:.0%}",
            ]
        )
    head = [
        "webhooks/s at connections:",
        *map(str, counts),
        f"range at {shown}",
        "CPU µs",
        "p99 ms",
        "waited",
        "load busy",
    ]
    return f"{source(result)}\n\n{table(head, rows)}"


def relay(results: Results) -> str:
    """A table for each rate."""
    result = results["relay"]
    parts = [source(result)]
    for rate in dict.fromkeys(row["rate"] for row in result["rows"]):
        rows = [_relay_row(row) for row in result["rows"] if row["rate"] == rate]
        head = [
            f"{rate:,.0f}/s" if rate else "flat out",
            *("CPU µs", "range", "waited", "served/s", "there p50 ms", "p99", "p99.9", "answer p99", ""),
        ]
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def _relay_row(row: Result) -> list[str]:
    there, answer = row["there_ms"], row["answer_ms"]
    cpu = (
        [f"{row['cpu_us']:.1f}", f"{row['cpu_us_low']:.1f} to {row['cpu_us_high']:.1f}"]
        if row["cpu_us"]
        else ["", ""]
    )
    named = (("behind", "behind"), ("lost", "LOST"), ("twice", "twice"), ("failures", "FAILED"))
    remarks = ", ".join(f"{row[what]:,} {word}" for what, word in named if row[what])
    times = [there["p50"], there["p99"], there["p999"], answer["p99"]]
    waited = f"{row['waited']:.0%}" if row["cpu_us"] else ""
    return [
        row["server"],
        *cpu,
        waited,
        f"{row['served_per_s']:,.0f}",
        *(f"{ms:,.2f}" for ms in times),
        remarks,
    ]


def push(results: Results) -> str:
    result = results["push"]
    rows = [
        [
            row["server"],
            f"{row['per_s']:,}",
            f"{row['per_s_low']:,} to {row['per_s_high']:,}",
            f"{row['cpu_us']:.1f}",
            f"{row['p99_ms']:.1f}",
        ]
        for row in result["rows"]
    ]
    return f"{source(result)}\n\n{table(['pushes accepted', 'per s', 'range', 'CPU µs', 'p99 ms'], rows)}"


def waiting(results: Results) -> str:
    result = results["waiting"]
    rows = [
        [
            f"{row['waiting']:,}",
            f"{row['rss'] / 1e6:.1f}",
            f"{row['anonymous'] / 1e6:.1f}",
            f"{row['cpu_us']:.1f}",
            f"{row['start_s']:.2f}",
        ]
        for row in result["rows"]
    ]
    bodies = [
        [
            f"{row['body']:,}",
            f"{row['from']:,} to {row['to']:,}",
            f"{row['anonymous']:.0f}",
            f"{row['rss']:.0f}",
        ]
        for row in result["bodies"]
    ]
    delivery = "A delivery takes {few} µs of CPU from a short queue, {many} µs from the longest.".format(
        **result["deliver_us"]
    )
    growth = table(["body, bytes", "items", "anonymous bytes an item", "RSS bytes an item"], bodies)
    first = table(["waiting", "RSS MB", "anonymous MB", "CPU µs a webhook", "start s"], rows)
    return f"{source(result)}\n\n{first}\n\n{growth}\n\n{delivery}"


def micro(results: Results) -> str:
    """Ours beside each peer."""
    parts = [source(results["bucket"])] if "bucket" in results else []
    for name in MICRO:
        rows = []
        for group, members in results.get(name, {}).get("groups", {}).items():
            ours = next(iter(members.values()))["ns"]
            rows += [
                [
                    f"{group}: {member}",
                    f"{row['ns']:,.0f}",
                    f"{row['low']:,.0f} to {row['high']:,.0f}",
                    f"{row['ns'] / ours:.1f}",
                ]
                for member, row in members.items()
            ]
        if rows:
            parts.append(table([f"`micro/{name}.py`", "ns", "range", "ratio"], rows))
    return "\n\n".join(parts)


def headline(results: Results) -> str:
    """What the first page says: two tables and a picture of each."""
    lines = []
    at = {row["server"]: row for row in results["ingest"]["rows"] if row["connections"] == 24}
    relayed = {row["server"]: row for row in results["relay"]["rows"] if row["rate"] == 1000.0}
    flat = {row["server"]: row for row in results["relay"]["rows"] if row["rate"] == 0.0}
    rows = [
        [
            server,
            f"{at[server]['per_s']:,}" if server in at else "",
            f"{flat[server]['cpu_us']:.1f}" if server in flat else "",
            f"{relayed[server]['there_ms']['p50']:.2f}" if server in relayed else "",
            f"{relayed[server]['there_ms']['p99']:.2f}" if server in relayed else "",
        ]
        for server in dict.fromkeys([*at, *flat])
        if server != "direct"
    ]
    head = ["", "webhooks/s answered", "CPU µs, webhook to backend", "there p50 ms at 1,000/s", "p99"]
    lines += [table(head, rows), "", source(results["relay"])]
    return "\n".join(lines)


BLOCKS: Final[dict[str, tuple[Callable[[Results], str], Sequence[str]]]] = {
    "targets": (targets, WITH_TARGETS),
    "ingest": (ingest, ["ingest"]),
    "relay": (relay, ["relay"]),
    "push": (push, ["push"]),
    "waiting": (waiting, ["waiting"]),
    "micro": (micro, MICRO),
    "bench": (headline, ["ingest", "relay"]),
}
"""What stands in each block, and the results it needs."""


def fill(page: str, results: Results) -> str:
    """`page` with the blocks of which all results are there made anew."""
    for name, (block, needs) in BLOCKS.items():
        if all(need in results for need in needs):
            begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
            before, opened, rest = page.partition(begin)
            _, closed, after = rest.partition(end)
            if opened and closed:
                page = f"{before}{begin}\n{block(results)}\n{end}{after}"
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON is")
    parser.add_argument("--print", action="store_true", help="print the targets and change nothing")
    options = parser.parse_args()
    results = read(options.results)
    if not results:
        sys.exit(f"no results in {options.results}: run `make bench`")
    print(targets(results))
    if not options.print:
        for page in PAGES:
            page.write_text(fill(page.read_text(), results))
        plots.draw(results, options.results)


if __name__ == "__main__":
    main()
