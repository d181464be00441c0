"""python -m bench: see README.md here."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench import machine, matrix, plots, report
from bench.load import bench
from bench.servers import SERVERS

RESULTS = Path(__file__).with_name("results")


def save(directory: Path, name: str, result: dict[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps({"machine": machine.describe(), **result}, indent=1) + "\n")
    print(f"written: {path}", file=sys.stderr)


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


def run_report(options: argparse.Namespace) -> None:
    plots.write(options.out)
    print(f"written: {report.write(options.out)}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    top.add_argument("--out", type=Path, default=RESULTS, help="where results are written")
    verbs = top.add_subparsers(required=True, metavar="WHAT")
    load = verbs.add_parser("load", help="CPU per request, throughput, latencies, memory")
    load.add_argument("--quick", action="store_true", help="one short round, to see that all works")
    load.add_argument("--rounds", type=int, default=5)
    load.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    for name, known in (
        ("suites", list(matrix.SUITES)),
        ("servers", list(SERVERS)),
        ("apps", [*matrix.APPS, "sleep"]),
    ):
        load.add_argument(f"--{name}", nargs="+", default=known, choices=known, metavar="NAME")
    load.set_defaults(run=run_load)
    verbs.add_parser("report", help="tables and plots from the results").set_defaults(
        run=run_report
    )
    return top


def main() -> None:
    options = parser().parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
