"""The figures drawn as the paper draws them. Matplotlib is an extra (`pip install 'dynamo-fast[paper]'`): tables need none of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from bench.paper import figure5, figure6, figure8, table2, versions


def canvas(title: str, x: str, y: str) -> tuple[Any, Any]:
    """A figure and its axes. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=110)
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def plot_figure8(found: dict[int, list[float]], path: Path) -> None:
    figure, axes = canvas("Figure 8: load balancing efficiency, S = 30, N = 3", "tokens or partitions, S * T", "mean / max load")
    for (number, efficiencies), marker in zip(found.items(), "osd", strict=True):
        line = axes.plot(figure8.TOKENS, efficiencies, marker=marker, label=f"strategy {number}")[0]
        axes.plot(figure8.TOKENS, figure8.PAPER[number], ls=":", color=line.get_color(), label=f"strategy {number}, the paper")
    axes.plot(figure8.TOKENS, [figure8.ours(tokens) for tokens in figure8.TOKENS], marker="^", color="black", label="our placement")
    axes.set_xscale("log", base=2)
    axes.set_xticks(figure8.TOKENS, [str(tokens) for tokens in figure8.TOKENS])
    axes.set_ylim(0.4, 1.02)
    axes.legend(loc="lower right", ncols=2)
    save(figure, path)


def plot_figure6(day: list[figure6.HalfHour], path: Path) -> None:
    figure, axes = canvas("Figure 6: nodes whose load is over 15 % off the mean, through a day", "hour", "nodes out of balance")
    hours = [half_hour / 2 for half_hour in range(len(day))]
    axes.plot(hours, [one.out_of_balance for one in day], marker="o", label="nodes out of balance")
    axes.set_ylim(0, None)
    load = axes.twinx()
    load.fill_between(hours, [one.load for one in day], color="gray", alpha=0.2, label="load")
    load.set_ylabel("load, of the peak")
    load.set_ylim(0, 1.05)
    lines, names = axes.get_legend_handles_labels()
    others, other_names = load.get_legend_handles_labels()
    axes.legend(lines + others, names + other_names, loc="upper right")
    save(figure, path)


def plot_figure5(found: list[figure5.Slice], path: Path) -> None:
    figure, axes = canvas("Figure 5: 99.9th percentile of writes, slice by slice", "slice of a second", "ms")
    for dw, name in ((figure5.BUFFERED, "buffered, DW=0"), (figure5.DURABLE, "durable, DW=2")):
        ours = [one for one in found if one.dw == dw]
        line = axes.plot(range(1, len(ours) + 1), [one.p999_ms for one in ours], marker="o", label=f"{name}: p99.9")[0]
        axes.plot(range(1, len(ours) + 1), [one.p50_ms for one in ours], ls=":", color=line.get_color(), label=f"{name}: p50")
    axes.set_yscale("log")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4)
    save(figure, path)


def plot_versions(seen: Counter[int], path: Path) -> None:
    figure, axes = canvas("Section 6.3: reads by the versions they saw", "versions", "share of reads")
    reads = seen.total()
    axes.bar([versions_seen - 0.2 for versions_seen in versions.PAPER], [seen[one] / reads for one in versions.PAPER], 0.4, label="here")
    axes.bar([versions_seen + 0.2 for versions_seen in versions.PAPER], list(versions.PAPER.values()), 0.4, label="the paper")
    axes.set_yscale("log")
    axes.set_xticks(list(versions.PAPER))
    axes.legend()
    save(figure, path)


def plot_table2(found: table2.Found, path: Path) -> None:
    figure, axes = canvas("Table 2: latency by who coordinates", "", "ms")
    for shift, quantile, name in ((-0.2, 0.5, "p50"), (0.2, 0.999, "p99.9")):
        heights = [latencies.all.quantile(quantile) / 1e6 for latencies in found.values()]
        bars = axes.bar([place + shift for place in range(len(found))], heights, 0.4, label=name)
        axes.bar_label(bars, fmt="%.2f")
    axes.set_xticks(range(len(found)), [f"{operation}, {mode}" for mode, operation in found])
    axes.legend()
    save(figure, path)
