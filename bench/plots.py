"""Plots of the results, as SVG, beside the JSON files they are made from."""

import json
import statistics
from pathlib import Path

from bench import rolling
from bench.report import Row, label, names, select, values

# How a bar's name begins: ours, what no server can be better than, the peers.
COLOURS = (
    ("**sdactivate", "#1b6ca8"),
    ("no server", "#d9a441"),
    ("python", "#d9a441"),
    ("", "#9aa5b1"),
)


def colour(name: str) -> str:
    return next(colour for start, colour in COLOURS if name.startswith(start))


def bars(path: Path, title: str, unit: str, lines: list[tuple[str, list[float]]]) -> None:
    """A bar for each line, shortest first, with its smallest and largest value as whiskers."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "sdactivate", "svg.fonttype": "none"})
    from matplotlib import pyplot

    lines = [line for line in lines if line[1]]
    lines.sort(key=lambda line: -statistics.median(line[1]))
    middles = [statistics.median(found) for _, found in lines]
    spread = [
        [middle - min(found) for middle, (_, found) in zip(middles, lines, strict=True)],
        [max(found) - middle for middle, (_, found) in zip(middles, lines, strict=True)],
    ]
    figure, axes = pyplot.subplots(figsize=(8, 0.6 + 0.26 * len(lines)))
    drawn = axes.barh(
        [name.replace("*", "") for name, _ in lines],
        middles,
        xerr=spread,
        color=[colour(name) for name, _ in lines],
        error_kw={"elinewidth": 1, "ecolor": "#333"},
    )
    axes.bar_label(drawn, [f" {middle:.3g}" for middle in middles], fontsize=7)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def lines(rows: list[Row], figure: str, unit: float = 1) -> list[tuple[str, list[float]]]:
    """What `bars` draws of one figure: a line for each server and protocol."""
    return [
        (label(*name), [v / unit for v in values(rows, figure, server=name[0], protocol=name[1])])
        for name in names(rows)
    ]


def load(directory: Path, result: Row) -> None:
    one = [row for row in select(result["rows"], suite="one") if row["via"] != "nginx"]
    for app in dict.fromkeys(row["app"] for row in one):
        bars(
            directory / f"load-cpu-{app}.svg",
            f"CPU per request, one worker, on the socket: {app}",
            "µs",
            lines(select(one, app=app), "cpu_us"),
        )
    bars(
        directory / "load-p99-threads.svg",
        "p99 with 8 threads on one core: page",
        "ms",
        lines(select(result["rows"], suite="threads", app="page"), "p99_us", 1000),
    )


def start(directory: Path, result: Row) -> None:
    for app in ("trivial", "djmw"):
        bars(
            directory / f"start-cold-{app}.svg",
            f"Cold start to the first byte: {app}",
            "ms",
            lines(select(result["rows"], what="cold", app=app), "ms"),
        )


def restart(directory: Path, result: Row) -> None:
    rows = select(result["rows"], action="restart", via="socket", together=False)
    bars(
        directory / "restart-longest.svg",
        "Longest wait of a request across restarts, on the socket",
        "ms",
        lines(rows, "max_us", 1000),
    )


def drain(directory: Path, result: Row) -> None:
    rolling.draw(directory / "drain-rolling.svg", rolling.times(directory))


PLOTS = {"load": load, "start": start, "restart": restart, "drain": drain}


def write(directory: Path) -> None:
    """Draw the plots of every result in `directory`."""
    for name, plot in PLOTS.items():
        path = directory / f"{name}.json"
        if path.exists():
            plot(directory, json.loads(path.read_text()))
