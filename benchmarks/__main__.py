"""`python -m benchmarks [NAME ...] [--quick] [--json FILE] [--plot DIR]`: run benchmarks, print their tables.

Without a name all are run, which takes a quarter of an hour. `--quick` only shows that they run: its figures mean nothing. `--json`
writes all that was found, with date, machine and versions; `--plot` draws the pictures (it needs matplotlib: the extra `bench`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

from ._machine import machine
from ._report import Report
from ._session import run

NAMES = (
    "batch",
    "single_sync",
    "single_async",
    "extended",
    "opening",
    "insertion",
    "cancel",
    "many",
    "busy",
    "pool",
    "tracing",
    "growth",
    "script",
    "idle",
)
"""The benchmarks, in the order in which they are run."""


def _found(module: ModuleType, name: str, quick: bool) -> Report:
    """Make the runs of a benchmark, and its report."""
    runs: dict[str, list[object]] = {}
    for setting in module.settings(quick):
        print(f"  {name}: {setting}", file=sys.stderr, flush=True)
        runs.setdefault(setting, []).append(run(name, setting, quick))
    report: Report = module.report(runs)
    return report


def _summary(reports: dict[str, Report]) -> str:
    """Every verdict, as rows of Markdown."""
    lines = ["| benchmark | measured | figure (quartiles) | target | verdict |", "| --- | --- | --- | --- | --- |"]
    for name, report in reports.items():
        for verdict in report.verdicts:
            spread = f" ({verdict.spread.low:.2f} to {verdict.spread.high:.2f})" if verdict.spread else ""
            cells = (
                name,
                verdict.what,
                f"{verdict.value:.3g}{verdict.unit}{spread}",
                f"{verdict.relation} {verdict.target:g}{verdict.unit}",
                "met" if verdict.met else "**missed**",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks, print their tables.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="only show that they run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw pictures")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    where = machine()
    print("\n".join(f"{name}: {value}" for name, value in where.items()), end="\n\n")
    reports = {}
    for name in arguments.names or NAMES:
        report = reports[name] = _found(importlib.import_module(f"benchmarks.{name}"), name, arguments.quick)
        print(f"{name}: {report}", flush=True)
        if arguments.json is not None:  # after each of them: a long run that is broken off has left what it found
            everything = {
                "machine": where,
                "quick": arguments.quick,
                "benchmarks": {each: reports[each].as_json() for each in reports},
            }
            arguments.json.write_text(json.dumps(everything, indent=1) + "\n")
    print(_summary(reports))
    if arguments.plot is not None:
        from ._plot import draw

        draw(reports, arguments.plot)


if __name__ == "__main__":
    main()
