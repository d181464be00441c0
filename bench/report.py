"""Turn the JSON files of bench/results into its README.md: tables of medians with their spread."""

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench import latency, ratios
from bench.apps.sleep import SECONDS
from bench.matrix import NO_SERVER, SUITES
from bench.restart import CLIENTS, PAUSE_MS

Row = dict[str, Any]
IDEAL = SUITES["sleep"][1] / SECONDS  # requests a second that the sleeping application allows


def number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def cell(values: list[float]) -> str:
    """The median, and in brackets the smallest and largest where there were several rounds."""
    if not values:
        return ""
    middle = number(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))} to {number(max(values))})"


def table(head: list[str], lines: Iterable[list[str]]) -> str:
    ruler = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ruler, *lines]) + "\n"


def select(rows: list[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def values(rows: list[Row], figure: str, **wanted: Any) -> list[float]:
    return [row[figure] for row in select(rows, **wanted) if figure in row]


def names(rows: list[Row]) -> list[tuple[str, str]]:
    """Server and protocol of every line, in the order in which they were measured."""
    return list(dict.fromkeys((row["server"], row["protocol"]) for row in rows))


def label(server: str, protocol: str) -> str:
    name = f"**{server}**" if server.startswith("sdactivate") else server
    return f"{name} {protocol}".strip()


def by_app(rows: list[Row], figure: str, unit: float = 1.0) -> str:
    """A table with a line for each server and protocol and a column for each application."""
    apps = list(dict.fromkeys(row["app"] for row in rows))

    def line(server: str, protocol: str) -> list[str]:
        found = select(rows, server=server, protocol=protocol)
        cells = [cell([v / unit for v in values(found, figure, app=app)]) for app in apps]
        return [label(server, protocol), *cells]

    return table(["", *apps], (line(*name) for name in names(rows)))


def failures(rows: list[Row]) -> str:
    """Requests that failed while something was measured."""
    lost: dict[str, int] = {}
    for row in rows:
        kinds = {kind: n for kind, n in row.get("failures", {}).items() if n}
        if kinds:
            key = f"{label(row['server'], row['protocol'])}, {row['app']}: {', '.join(kinds)}"
            lost[key] = lost.get(key, 0) + sum(kinds.values())
    return "".join(f"- {key}: {n} in all rounds\n" for key, n in lost.items())


def load_section(result: Row) -> str:
    rows = result["rows"]
    parts = [
        f"Medians of {result['rounds']} interleaved rounds of {result['seconds']} s each, smallest "
        "and largest in brackets. CPU is user and system time of the server's whole process tree. "
        f"`{NO_SERVER}` is the application called in a loop.\n"
    ]

    def add(title: str, text: str) -> None:
        parts.append(f"### {title}\n\n{text}")

    one = select(rows, suite="one")
    on_socket = [row for row in one if row["via"] in ("socket", "loop")]
    through = select(one, via="nginx")
    add("CPU per request, µs: on the socket, one worker, one thread", by_app(on_socket, "cpu_us"))
    add("Requests per second, on the socket", by_app(on_socket, "requests_per_s"))
    add("p99, ms, on the socket", by_app(select(one, via="socket"), "p99_us", 1000))
    if through:
        add("CPU per request, µs: through nginx", by_app(through, "cpu_us"))
        add("p99, ms, through nginx", by_app(through, "p99_us", 1000))
    if two := select(rows, suite="two"):
        add("CPU per request, µs: two workers", by_app(two, "cpu_us"))
    if threads := select(rows, suite="threads"):
        add("CPU per request, µs: one worker, 8 threads", by_app(threads, "cpu_us"))
        add(f"p99, ms: {SUITES['threads'][1]} threads on one core", by_app(threads, "p99_us", 1000))
    if asleep := select(rows, suite="sleep"):
        add(
            "An application that sleeps 5 ms, 8 threads: share of the ideal",
            sleeping(asleep),
        )
    add("Memory of one worker, PSS in MiB, idle", by_app(on_socket, "idle_mib"))
    add("Memory after the load, PSS in MiB", by_app(on_socket, "mib"))
    if lost := failures(rows):
        add("Requests that failed", lost)
    if result["failed"]:
        lines = "".join(f"- {name}: {why}\n" for name, why in result["failed"].items())
        add("Not measured", lines)
    return "\n".join(parts)


def sleeping(rows: list[Row]) -> str:
    """What the application that sleeps reaches, as a share of what its threads allow."""
    numbers = sorted({row["connections"] for row in rows})

    def line(server: str, protocol: str) -> list[str]:
        found = select(rows, server=server, protocol=protocol)
        return [label(server, protocol)] + [
            cell([rate / IDEAL for rate in values(found, "requests_per_s", connections=number)])
            for number in numbers
        ]

    heads = [f"{number} connections" for number in numbers]
    return table(["", *heads], (line(*name) for name in names(rows)))


def ratios_section(result: Row) -> str:
    def line(row: Row) -> list[str]:
        ours, peer = row["ours"], row["peer"]
        unit = 1000 if row["figure"] == "p99_us" else 1
        low, high = row["quartiles"]
        return [
            _what(ours),
            _what(peer),
            ours["app"],
            number(row["ours_median"] / unit),
            number(row["peer_median"] / unit),
            f"**{row['ratio']:.2f}** ({low:.2f} to {high:.2f})",
            f"{row['most']:.2f}" if row["most"] else "",
        ]

    heads = ["", "against", "application", "ours", "theirs", "ratio (quartiles)", "wanted at most"]
    parts = [
        f"Servers side by side, in {result['turns']} turns of {result['seconds']} s each; a ratio "
        "is the median of those of neighbours in time. Under 1: this server does better."
        + (f" This server's hot path: {result['hot_path']}.\n" if "hot_path" in result else "\n"),
        table(heads, map(line, result["rows"])),
        *(f"- {name}: {why}\n" for name, why in result["failed"].items()),
    ]
    return "\n".join(parts)


def threads_section(result: Row) -> str:
    parts = ["p99, ms, of a Django site under saturation, on one core.\n", ratios_section(result)]
    parts.append(f"An application that sleeps {SECONDS * 1000:g} ms: the share of the ideal.\n")
    shares = [
        [
            _what(row["ours"]),
            str(row["connections"]),
            f"{row['share']:.3f} ({row['quartiles'][0]:.3f} to {row['quartiles'][1]:.3f})",
            f"{row['least']:.2f}",
        ]
        for row in result["sleeping"]
    ]
    parts.append(table(["", "connections", "share (quartiles)", "wanted at least"], shares))
    return "\n".join(parts)


def ratio_parts(result: Row) -> str:
    return "\n".join(
        f"### {RATIOS[name]}\n\n{when(part)}\n{ratios_section(part)}"
        for name, part in in_order(result, ratios.PARTS)
    )


RATIOS = {
    "trivial": "An application that does nothing",
    "djmw": "Django, default middleware",
    "page": "Django, a page from a template",
    "json": "Django, 20 kB of JSON",
    "file": "Django, a file of 1 MB",
    "post": "Django, a request body of 1 MB",
    "tcp": "Over TCP, against servers that have no unix sockets",
    "nginx": "Through nginx, from wrk",
    "nginx-two": "Through nginx, from wrk, two workers",
}


def _what(case: Row) -> str:
    more = [f"{case[kind]} {kind}" for kind in ("workers", "threads") if case[kind] > 1]
    return ", ".join([label(case["server"], case["protocol"]), *more])


def start_section(result: Row) -> str:
    rows = result["rows"]
    cold, memory = select(rows, what="cold"), select(rows, what="memory")
    imports = select(rows, what="imports")
    lines = [
        [row["app"], cell(values(imports, "ms", app=row["app"]))]
        for row in select(imports, round=1)
    ]
    last = select(imports, round=result["rounds"], app="djmw")[0]["modules_us"]
    dearest = ", ".join(f"{name} {cost / 1000:.1f}" for name, cost in list(last.items())[:12])
    return "\n".join(
        [
            f"Medians of {result['rounds']} interleaved rounds. `python` is Python itself: it "
            "imports the same application and answers once.\n",
            "### Cold start, ms: from connect on a cold socket to the first byte\n",
            by_app(cold, "ms"),
            "### Memory of one worker that has answered once, PSS in MiB\n",
            by_app(memory, "mib"),
            "### Imports of sdactivate that `python` does not make, ms\n",
            table(["", "ms"], lines),
            f"The dearest with djmw: {dearest}.\n",
            *(f"- {name}: {why}\n" for name, why in result["failed"].items()),
        ]
    )


def restart_section(result: Row) -> str:
    rows = result["rows"]
    parts = [
        f"{CLIENTS} clients on the socket and {CLIENTS} through nginx, each pausing {PAUSE_MS} ms "
        "between requests. Longest: the longest wait of any request. Took: the median of one "
        "restart or reload, from the signal to an answer.\n"
    ]
    for action in dict.fromkeys(row["action"] for row in rows):
        parts.append(f"### {TITLES[action]}\n")
        heads = ["", "times", "requests", "failed", "p99, ms", "longest, ms", "took, ms"]
        parts.append(table(heads, map(_restart_line, select(rows, action=action))))
    parts += [f"- {name}: {why}\n" for name, why in result["failed"].items()]
    return "\n".join(parts)


TITLES = {
    "none": "The same load, and nothing happens",
    "restart": "Restarts",
    "reload": "Reloads",
}


def _restart_line(row: Row) -> list[str]:
    kinds = ", ".join(f"{kind} {n}" for kind, n in row["failures"].items() if n)
    together = " (all four at once)" if row["together"] else ""
    return [
        f"{label(row['server'], row['protocol'])}{together}, {row['via']}",
        str(row["times"] or ""),
        str(row["requests"]),
        f"{row['failed']} ({kinds})" if kinds else "0",
        number(row["p99_us"] / 1000),
        number(row["max_us"] / 1000),
        number(row["took_s"] * 1000) if row["took_s"] else "",
    ]


def idle_section(result: Row) -> str:
    sites, leaving = result["sites"], result["leaving"]
    waits = sites["first_answer_ms"]
    lost = sum(leaving["failures"].values())
    lines = {
        "Processes of sites while nobody asks": str(sites["processes_asleep"]),
        "Memory of PID 1 for each site, KiB": number(sites["pid1_kib_per_site"]),
        "`systemctl daemon-reload` with all of them, s": number(sites["daemon_reload_s"]),
        "`systemctl start` of all sockets, s": number(sites["start_sockets_s"]),
        "First answer of a site (the admin's login page), ms": cell(waits),
        "Units failed in the end": str(len(sites["failed_units"])),
    }
    return (
        f"{sites['sites']} sites, each with a socket and a service of its own, on one machine "
        f"({sites['systemd']}):\n\n{table(['', ''], ([k, v] for k, v in lines.items()))}\n"
        f"A process that leaves when it is idle, {leaving['times']} times, with a client that "
        f"comes as it is leaving: {leaving['requests']} requests, {lost} failed, the longest wait "
        f"{number(leaving['max_us'] / 1000)} ms (a start of the process).\n"
    )


def generate_section(result: Row) -> str:
    runs, reloads, starts = result["files"], result["reload"], result["start"]
    written = {row["run"]: row["lines"] for row in runs}
    lines = [
        [run, str(count), cell(values(runs, "s", run=run)), cell(values(runs, "cpu_s", run=run))]
        for run, count in written.items()
    ]
    added = [row["with_s"] - row["without_s"] for row in reloads]
    gen, bare = values(starts, "gen_ms"), values(starts, "jinja2_ms")
    ratio = statistics.median(gen) / statistics.median(bare)
    figures = {
        f"`systemctl daemon-reload` without a site, s ({result['systemd']})": cell(
            values(reloads, "without_s")
        ),
        f"the same with {result['sites']} sites in /etc/sdactivate, s": cell(
            values(reloads, "with_s")
        ),
        "what they add, s": cell(added),
        "`sdactivate gen NAME`, ms": cell(gen),
        '`python -c "import jinja2"`, ms': cell(bare),
        "gen in terms of that import": number(ratio),
    }
    return (
        f"`gen --from` with {result['many']} sites, on {result['file_system']}, "
        f"{result['rounds']} rounds:\n\n"
        f"{table(['', 'files written', 's', 's of CPU'], lines)}\n"
        f"{table(['', ''], ([k, v] for k, v in figures.items()))}"
    )


def doctor_section(result: Row) -> str:
    rows = result["rows"]
    figures = {
        "s": "s",
        "cpu_s": "s of CPU, its commands included",
        "systemd_cpu_s": "s of CPU of systemd",
        "journald_cpu_s": "s of CPU of journald",
        "peak_mib": "MiB at most",
    }
    lines = [
        [{"now": "this checkout", "before": "the other one"}[which]]
        + [cell(values(rows, name, doctor=which)) for name in figures]
        for which in dict.fromkeys(row["doctor"] for row in rows)
    ]
    same = "All found the same" if result["same_findings"] else "They did NOT find the same"
    return (
        f"One `sdactivate doctor` over {result['sites']} sites behind nginx, {result['active']} of "
        f"them active and {result['failed']} failed ({result['systemd']}), in {result['rounds']} "
        f"rounds. {same}: {result['findings']} findings.\n\n"
        f"{table(['', *figures.values()], lines)}"
    )


def slow_section(result: Row) -> str:
    def line(row: Row) -> list[str]:
        before, beside = row["without"], row["with"]
        return [
            f"{row['protocol']}, {row['via']}, --threads {row['threads']}: {row['crowd']}",
            number(before["p99_ms"]),
            number(beside["p99_ms"]),
            number(beside["max_ms"]),
            str(beside["failed"]),
            number(row["idle_mib"]),
            number(row["mib"]),
            "yes" if row["watchdog"] else "NO",
            str(row["told"]),
        ]

    head = ["", "p99 without", "p99 with", "longest", "failed", "MiB without", "MiB with"]
    head += ["watchdog notified", "lines of log"]
    return (
        f"{result['count']} peers that read nothing of 8 MiB, or that send a body of 2 MiB a byte "
        "every 5 s, on the socket, or through nginx as `gen --kind nginx --stream /` configures it "
        "(but for its limit of connections), and the same with its buffering on; when all have "
        "been heard, "
        f"{result['ordinary']} ordinary requests one after the other, milliseconds.\n\n"
        + table(head, map(line, result["rows"]))
    )


def leaving_section(result: Row) -> str:
    """One line a protocol, way and action: the cells of workers and threads added up."""
    rows: dict[tuple[str, str, str], list[Row]] = {}
    for row in result["rows"]:
        rows.setdefault((row["protocol"], row["via"], row["action"]), []).append(row)
    sums = ("times", "requests", "again", "lost", "hung")
    names = {"socket": "on the socket", "nginx": "nginx", "generated": "nginx as generated"}
    lines = [
        [f"{protocol}, {names[via]}", f"{action}s", str(len(cells))]
        + [str(sum(cell[name] for cell in cells)) for name in sums]
        for (protocol, via, action), cells in rows.items()
    ]
    return (
        "24 clients that send the head and the body in pieces, on kept connections where the "
        "protocol has them; nginx with `keepalive`, or as `gen --kind nginx` configures it. Cells: "
        "1, 2 and 4 workers with 1 and 8 threads. Again: refused at the first byte on a kept "
        "connection, and sent on a new one.\n\n"
        + table(["", "", "cells", "times", "requests", "again", "lost", "hung"], lines)
    )


def latency_section(result: Row) -> str:
    parts = in_order(result, latency.PARTS)
    rows = [
        (part, {**row, "load": f"{part['machine']['load_average']:.1f}"})
        for _, part in parts
        for row in part["rows"]
    ]
    beside = [
        [
            str(row["computing"]),
            number(row["ms"]),
            f"{row['least']:.0f} to {row['most']:.0f}",
            f"{row['goal_ms']:g}",
            row["load"],
        ]
        for _, row in rows
        if "computing" in row
    ]
    cells = [
        [
            f"{row['place']}, {row['seconds']:g} s, {row['connections']} connections",
            number(row["eight_ms"]),
            number(row["one_ms"]),
            f"{row['ratio']:.2f}",
            f"{row['goal']:g}",
            str(part["turns"]),
            row["load"],
        ]
        for part, row in rows
        if "place" in row
    ]
    mixed = [
        [
            number(row["p50_ms"]),
            number(row["p99_ms"]),
            f"{row['ratio']:.2f}",
            f"{row['goal']:g}",
            row["load"],
        ]
        for _, row in rows
        if "p50_ms" in row
    ]
    dates = sorted({f"{part['machine']['commit']}, {part['machine']['date']}" for _, part in parts})
    head = ["computing for 3 s", "a trivial request, ms", "least to most", "at most", "load"]
    return (
        f"In parts, at {'; '.join(dates)}. Load: the load average at the end of the part.\n"
        f"\n{table(head, beside)}\n"
        "Django's p99 in milliseconds, the median of the bursts or runs, each after "
        f"{latency.QUIET:g} s of quiet:\n\n"
        f"{table(['', '8 threads', '1 thread', 'ratio', 'at most', 'bursts', 'load'], cells)}\n"
        "Quick requests where 9 in 10 compute 1 ms and 1 in 10 waits 1 s, in milliseconds:\n\n"
        f"{table(['p50', 'p99', 'ratio', 'at most', 'load'], mixed)}"
    )


def memory_section(result: Row) -> str:
    lines = [
        [f"{row['requests']:,}", f"{row['rss_mib']:.1f}", str(row["fds"]), str(row["threads"])]
        for row in result["rows"]
    ]
    ended = "" if result["whole"] else " The time was up before all had been sent."
    return (
        "One process with eight threads; requests of every kind over every protocol, and odd ones "
        f"among them.{ended} After the first fifth RSS has grown by {result['grown_mib']:.1f} "
        "MiB at most.\n\n" + table(["requests", "RSS, MiB", "descriptors", "threads"], lines)
    )


def drain_section(result: Row) -> str:
    names = {
        "noticed": "announced, until the balancer sends none",
        "drained": "announced, until it is over",
        "back": "started, until the balancer sends some",
        "failed": "frozen, until the balancer sends none",
    }
    lines = [
        [names[name], *(f"{pick(took):.1f}" for pick in (min, statistics.median, max))]
        for name, took in result["took_s"].items()
    ]
    return (
        f"HAProxy asks every second and wants two answers of a kind; `--drain-delay "
        f"{result['announced_s']}`; {result['times']} times each, in seconds. The plot is a model "
        "of a rolling release with these and the releases' times ([rolling.py](../rolling.py)).\n\n"
        + table(["", "least", "median", "most"], lines)
    )


# File name without .json: heading, and what makes its text.
SECTIONS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "ratios": ("CPU per request, µs, side by side", ratio_parts),
    "threads": ("Threads", threads_section),
    "load": ("Serving", load_section),
    "latency": ("Latency", latency_section),
    "slow": ("Slow peers", slow_section),
    "memory": ("Memory over a million requests", memory_section),
    "start": ("Starting", start_section),
    "restart": ("Restarting", restart_section),
    "leaving": ("Restarts and reloads, request by request", leaving_section),
    "hosts": ("Restarting other servers on the same unit", restart_section),
    "idle": ("Idle sites", idle_section),
    "generate": ("Generating", generate_section),
    "drain": ("Machines that go and fail", drain_section),
    "doctor": ("The doctor over many sites", doctor_section),
}


def machine(about: Row) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"Measured {about['date']} at commit {about['commit']}: {about['processor']}, "
        f"{about['cores']} cores (server on core {about['cores_used']['server']}, load on core "
        f"{about['cores_used']['load']}), Linux {about['kernel']}, Python {about['python']}, nginx "
        f"{about['nginx']}, {versions}. Load average at the end: {about['load_average']}.\n"
    )


def in_order(result: Row, known: Iterable[str]) -> list[tuple[str, Row]]:
    """The parts of a result that have been measured, in the order of those that are known."""
    return [(name, result["parts"][name]) for name in known if name in result["parts"]]


def when(part: Row) -> str:
    about = part["machine"]
    return (
        f"At commit {about['commit']}, {about['date']}; load average at the end: "
        f"{about['load_average']}.\n"
    )


def about(result: Row) -> Row:
    """The machine on which a result was measured; that of its newest part, if it has parts."""
    parts = result.get("parts", {"": result}).values()
    newest: Row = max((part["machine"] for part in parts), key=lambda machine: machine["date"])
    return newest


def write(directory: Path) -> Path:
    """Write README.md from every result in `directory`; return its path."""
    parts = [
        "# Results\n\nWritten by `python -m bench report` from the JSON files here; how they are "
        "made is in [../README.md](../README.md).\n"
    ]
    for name, (title, section) in SECTIONS.items():
        path = directory / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text())
            parts.append(f"## {title}\n\n{machine(about(result))}\n{section(result)}")
            parts += [f"![]({plot.name})\n" for plot in sorted(directory.glob(f"{name}-*.svg"))]
    target = directory / "README.md"
    target.write_text("\n".join(parts))
    return target
