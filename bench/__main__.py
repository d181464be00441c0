"""python -m bench: see README.md here."""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import (
    front_page,
    gate,
    hosts,
    latency,
    leaving,
    machine,
    matrix,
    memory,
    plots,
    ratios,
    report,
    restart,
    slow,
    start,
)
from bench.load import bench
from bench.servers import BEFORE, SERVERS

RESULTS = Path(__file__).with_name("results")


def save(directory: Path, name: str, result: dict[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps({"machine": machine.describe(), **result}, indent=1) + "\n")
    print(f"written: {path}", file=sys.stderr)


def keep(directory: Path, name: str, part: str, result: dict[str, Any]) -> None:
    """Write one part of a result into its file, and leave the other parts there as they are."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    parts = kept(directory, name)
    parts[part] = {"machine": machine.describe(), **result}
    path.write_text(json.dumps({"parts": parts}, indent=1) + "\n")
    print(f"written: {path}, {part}", file=sys.stderr)


def kept(directory: Path, name: str) -> dict[str, Any]:
    """The parts of a result that have been measured."""
    path = directory / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()).get("parts", {}) if path.exists() else {}
    return found


def wanted(options: argparse.Namespace, name: str) -> Iterator[str]:
    """The parts to measure; with --resume only those that this commit's results do not have."""
    there = kept(options.out, name)
    for part in options.parts:
        last = there.get(part, {}).get("machine", {})
        if not (options.resume and last.get("commit") == machine.commit()):
            yield part


def run_load(options: argparse.Namespace) -> None:
    with bench() as place:
        result = matrix.rounds(
            place,
            1 if options.quick else options.rounds,
            0.3 if options.quick else options.seconds,
            options.suites,
            options.servers,
            options.apps,
        )
    save(options.out, "load", result)


def run_ratios(options: argparse.Namespace) -> None:
    turns = 4 if options.quick else options.turns
    for part in wanted(options, "ratios"):
        with bench() as place:
            result = ratios.measure(place, ratios.PARTS[part], turns, options.seconds)
        keep(options.out, "ratios", part, result)


def run_before(options: argparse.Namespace) -> None:
    os.environ[BEFORE] = str(options.checkout.resolve())
    with bench() as place:
        turns = 4 if options.quick else options.turns
        result = ratios.measure(place, ratios.CHANGED, turns, options.seconds)
    save(options.out, "before", result)


def run_threads(options: argparse.Namespace) -> None:
    with bench() as place:
        turns, seconds = (2, 0.5) if options.quick else (options.turns, options.seconds)
        result = ratios.threads(place, turns, seconds)
    save(options.out, "threads", result)


def run_start(options: argparse.Namespace) -> None:
    with bench() as place:
        result = start.rounds(place, 1 if options.quick else options.rounds, options.servers)
    save(options.out, "start", result)


def run_restart(options: argparse.Namespace) -> None:
    with bench() as place:
        times, own = (2, 2) if options.quick else (options.times, options.own_times)
        result = restart.runs(place, times, own, options.app, options.servers)
    save(options.out, "restart", result)


def run_leaving(options: argparse.Namespace) -> None:
    with bench() as place:
        times = 6 if options.quick else options.times
        result = leaving.runs(place, times, options.protocols, options.ways)
    save(options.out, "leaving", result)


def run_hosts(options: argparse.Namespace) -> None:
    with bench() as place:
        times = 2 if options.quick else options.times
        result = hosts.runs(place, times)
    save(options.out, "hosts", result)


def run_idle(options: argparse.Namespace) -> None:
    from bench import idle  # the tests' machine, which wants to be root

    few = options.quick
    with bench() as place:
        result = {
            "leaving": idle.leaving(place, 20 if few else options.times),
            "sites": idle.sites(20 if few else options.sites),
        }
    save(options.out, "idle", result)


def run_generate(options: argparse.Namespace) -> None:
    from bench import generate  # the tests' machine, too

    few = options.quick
    result = generate.rounds(
        1 if few else options.rounds, 100 if few else options.many, 10 if few else options.sites
    )
    save(options.out, "generate", result)


def run_doctor(options: argparse.Namespace) -> None:
    from bench import doctor  # the tests' machine, too

    turns, sites = (1, 60) if options.quick else (options.rounds, options.sites)
    save(options.out, "doctor", doctor.rounds(turns, sites, options.before))


def run_releases(options: argparse.Namespace) -> None:
    from bench import releases  # the tests' machine, too

    times = 2 if options.quick else options.times
    save(options.out, "releases", releases.rounds(times, options.site))


def run_drain(options: argparse.Namespace) -> None:
    from bench import drain  # the tests' machine, too

    save(options.out, "drain", drain.rounds(2 if options.quick else options.times))


def run_hup(options: argparse.Namespace) -> None:
    from bench import hup  # the tests' machine, too

    save(options.out, "hup", hup.runs(2 if options.quick else options.times))


def run_gate(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory:
        count, calls = (1, 2000) if options.quick else (options.rounds, 20000)
        result = gate.rounds(Path(directory), count, calls)
    save(options.out, "gate", result)


def run_slow(options: argparse.Namespace) -> None:
    with bench() as place:
        count = 100 if options.quick else options.count
        result = slow.measure(place, count, options.protocols, options.ways)
    save(options.out, "slow", result)


def run_memory(options: argparse.Namespace) -> None:
    with bench() as place:
        count = 20_000 if options.quick else options.count
        result = memory.measure(place, count, options.most_seconds)
    save(options.out, "memory", result)


def run_latency(options: argparse.Namespace) -> None:
    turns = 1 if options.quick else options.turns
    for part in wanted(options, "latency"):
        with bench() as place:
            result = latency.measure(place, part, turns, options.quick)
        keep(options.out, "latency", part, result)


def run_report(options: argparse.Namespace) -> None:
    plots.write(options.out)
    print(f"written: {report.write(options.out)}", file=sys.stderr)
    if options.out == RESULTS:
        readme = RESULTS.parents[1] / "README.md"
        readme.write_text(front_page.filled(readme.read_text(), RESULTS))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    top.add_argument("--out", type=Path, default=RESULTS, help="where results are written")
    verbs = top.add_subparsers(required=True, metavar="WHAT")

    def verb(name: str, run: Callable[[argparse.Namespace], None], summary: str) -> Any:
        made = verbs.add_parser(name, help=summary)
        made.set_defaults(run=run)
        if run is not run_report:
            made.add_argument("--quick", action="store_true", help="short, to see that all works")
        return made

    def some(of: argparse.ArgumentParser, name: str, known: list[str]) -> None:
        of.add_argument(f"--{name}", nargs="+", default=known, choices=known, metavar="NAME")

    load = verb("load", run_load, "CPU per request, throughput, latencies, memory")
    beside = verb("ratios", run_ratios, "costs in terms of a peer's, side by side")
    changed = verb("before", run_before, "costs in terms of another checkout's, side by side")
    changed.add_argument("checkout", type=Path, metavar="DIR", help="such as one of the last tag")
    several = verb("threads", run_threads, "what several threads do to each other")
    cold = verb("start", run_start, "cold start, memory of one worker, imports")
    again = verb("restart", run_restart, "restarts and reloads under load")
    parting = verb("leaving", run_leaving, "restarts and reloads, requests sent in pieces")
    others = verb("hosts", run_hosts, "restarts under load of what --server offers")
    asleep = verb("idle", run_idle, "sites that nobody asks for, and leaving when idle (root)")
    written = verb("generate", run_generate, "many sites from a file, and a daemon-reload (root)")
    examined = verb("doctor", run_doctor, "the doctor over hundreds of sites (root)")
    examined.add_argument("--sites", type=int, default=500)
    examined.add_argument("--before", type=Path, metavar="DIR", help="another checkout, in turns")
    day_two = verb("releases", run_releases, "releases and rollbacks under load (root)")
    going = verb("drain", run_drain, "how soon a balancer sees a machine go and fail (root)")
    going.add_argument("--times", type=int, default=20, help="of each")
    signalled = verb(
        "hup", run_hup, "restarts and HUP reloads of uvicorn, hypercorn, granian (root)"
    )
    signalled.add_argument("--times", type=int, default=20, help="of each")
    costs = verb("gate", run_gate, "what --allow-peer costs a connection (root)")
    patient = verb("slow", run_slow, "what thousands of slow peers cost the others")
    patient.add_argument("--count", type=int, default=2000, help="slow peers at a time")
    some(patient, "protocols", list(slow.FOUR))
    some(patient, "ways", list(slow.WAYS))
    long = verb("memory", run_memory, "memory and descriptors over a million requests")
    long.add_argument("--count", type=int, default=1_000_000, help="requests")
    long.add_argument("--most-seconds", type=float, default=1800.0, help="no step begins later")
    waits = verb("latency", run_latency, "what requests wait for each other, 8 threads against 1")
    waits.add_argument("--turns", type=int, default=9, help="bursts of each server in each cell")
    verb("report", run_report, "tables and plots from the results, and the README's figures")
    for made, parts in ((beside, ratios.PARTS), (waits, latency.PARTS)):
        some(made, "parts", list(parts))
        made.add_argument(
            "--resume", action="store_true", help="only parts that were not measured at this commit"
        )
    for made in (load, cold, again):
        some(made, "servers", list(SERVERS))
    for made in (load, cold, costs, written, examined):
        made.add_argument("--rounds", type=int, default=5)
    for made, turns, seconds in ((beside, 24, 0.25), (changed, 24, 0.25), (several, 8, 2.0)):
        made.add_argument("--turns", type=int, default=turns, help="of each in a comparison")
        made.add_argument("--seconds", type=float, default=seconds, help="of one turn")
    load.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    some(load, "suites", list(matrix.SUITES))
    some(load, "apps", [*matrix.APPS, "sleep"])
    for made in (again, others):
        made.add_argument("--times", type=int, default=20, help="restarts of each server")
    day_two.add_argument("--times", type=int, default=50, help="releases, each with a rollback")
    day_two.add_argument("--site", default="example", choices=("example", "hello"))
    asleep.add_argument("--times", type=int, default=1000, help="how often a process leaves")
    asleep.add_argument("--sites", type=int, default=1000)
    written.add_argument("--many", type=int, default=10000, help="sites in gen's file")
    written.add_argument("--sites", type=int, default=1000, help="sites of a daemon-reload")
    parting.add_argument("--times", type=int, default=300, help="of each protocol and action")
    some(parting, "protocols", list(leaving.PROTOCOLS))
    some(parting, "ways", list(leaving.WAYS))
    again.add_argument("--own-times", type=int, default=100, help="of this project's server")
    again.add_argument("--app", default="djmw", choices=[*matrix.APPS, "sleep"])
    return top


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers are stopped then, too
    options = parser().parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
