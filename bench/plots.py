"""The pictures of the recorded results, as PNG: rates at the door, CPU and latency on the way, what waiting costs."""

from pathlib import Path
from typing import Any, Final

Results = dict[str, dict[str, Any]]

COLOURS: Final = {
    "wa-gateway, full": "#0b5d3b",
    "wa-gateway, os": "#2f9e68",
    "wa-gateway, memory": "#8fd3b0",
    "nginx": "#3b6fb6",
    "HAProxy": "#7a5195",
    "aiohttp": "#e08e0b",
    "aiohttp + Redis AOF": "#d1495b",
    "FastAPI + Redis AOF": "#8c2f39",
    "direct": "#999999",
}
DPI: Final = 110


def draw(results: Results, directory: Path) -> None:
    """All that results are there for. Without matplotlib it says so."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - the tables are made without it
    except ImportError:
        print("MISSING matplotlib: no plots; pip install '.[bench]'")
        return
    mpl.use("Agg")
    for name, plot in (("ingest", _ingest), ("relay", _relay), ("waiting", _waiting)):
        if name in results:
            plot(results[name], directory / f"{name}.png")


def _figure(width: float, height: float, columns: int) -> tuple[Any, Any]:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.3)
    return figure, axes[0]


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure.tight_layout()
    # Without the date and the version of the library, the same result is the same file.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def _ingest(result: dict[str, Any], path: Path) -> None:
    figure, (axis,) = _figure(9, 4, 1)
    counts = sorted({row["connections"] for row in result["rows"]})
    servers = list(dict.fromkeys(row["server"] for row in result["rows"]))
    width = 0.8 / len(servers)
    for at, server in enumerate(servers):
        rows = [row for row in result["rows"] if row["server"] == server]
        rates = [row["per_s"] for row in rows]
        errors = [
            [row["per_s"] - row["per_s_low"] for row in rows],
            [row["per_s_high"] - row["per_s"] for row in rows],
        ]
        places = [counts.index(row["connections"]) + (at - len(servers) / 2 + 0.5) * width for row in rows]
        axis.bar(places, rates, width, yerr=errors, label=server, color=COLOURS.get(server), ecolor="#444444")
    axis.set_xticks(range(len(counts)), [f"{count} connections" for count in counts])
    axis.set_yscale("log")
    axis.set_ylabel("webhooks/s answered 200 (log)")
    axis.set_title("A webhook taken, on one core: medians, and the range of the rounds", fontsize=11)
    axis.legend(fontsize=8, ncol=2)
    _save(figure, path)


def _relay(result: dict[str, Any], path: Path) -> None:
    figure, (cpu, latency) = _figure(12, 4.2, 2)
    rates = list(dict.fromkeys(row["rate"] for row in result["rows"]))
    names = [f"{rate:,.0f}/s" if rate else "flat out" for rate in rates]
    for server in dict.fromkeys(row["server"] for row in result["rows"]):
        rows = {row["rate"]: row for row in result["rows"] if row["server"] == server}
        style: dict[str, Any] = {"label": server, "color": COLOURS.get(server), "marker": "o"}
        if server != "direct":
            cpu.plot(range(len(rates)), [rows[rate]["cpu_us"] for rate in rates], **style)
        # A closed loop has no arrival rate that its latency could belong to.
        opened = [rate for rate in rates if rate]
        latency.plot(range(len(opened)), [rows[rate]["there_ms"]["p99"] for rate in opened], **style)
        latency.plot(
            range(len(opened)),
            [rows[rate]["there_ms"]["p50"] for rate in opened],
            color=style["color"],
            linestyle=":",
        )
    for axis, shown, what in ((cpu, names, "CPU µs an event (log)"), (latency, names[:-1], "ms (log)")):
        axis.set_yscale("log")
        axis.set_ylabel(what)
        axis.set_xticks(range(len(shown)), shown)
    cpu.set_title("CPU of the server, from webhook to backend", fontsize=11)
    latency.set_title("From due to at the backend: p99, and p50 dotted", fontsize=11)
    latency.legend(fontsize=8)
    _save(figure, path)


def _waiting(result: dict[str, Any], path: Path) -> None:
    figure, (memory, cost, start) = _figure(12, 3.4, 3)
    marks = [row["waiting"] for row in result["rows"]]
    columns = (
        (memory, [row["anonymous"] / 1e6 for row in result["rows"]], "memory, anonymous MB"),
        (cost, [row["cpu_us"] for row in result["rows"]], "CPU µs a webhook"),
        (start, [row["start_s"] for row in result["rows"]], "start, s"),
    )
    for axis, values, what in columns:
        axis.plot(marks, values, marker="o", color=COLOURS["wa-gateway, full"])
        axis.set_xscale("log")
        axis.set_ylim(0, max(values) * 1.2)
        axis.set_xlabel("events waiting (log)")
        axis.set_title(what, fontsize=11)
    _save(figure, path)
