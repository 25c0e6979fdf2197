"""`python -m benchmarks [NAME ...] [--quick] [--json FILE] [--plot DIR]`: run benchmarks, print their tables.

Without a name all are run, which takes some ten minutes; last comes the table of all verdicts. `--quick` only shows that they run:
its figures mean nothing. `--json` adds all that was found, with date, machine and versions, to the runs that the file has, and the
table compares with the last of them. `--plot` draws the pictures (it needs matplotlib: the extra `bench`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType

from ._machine import machine
from ._report import Report, summary, verdicts_of
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
    "fleet",
)
"""The benchmarks, in the order in which they are run."""


def _found(module: ModuleType, name: str, quick: bool) -> Report:
    """Make the runs of a benchmark, and its report."""
    runs: dict[str, list[object]] = {}
    for setting in module.settings(quick):
        begun = time.monotonic()
        runs.setdefault(setting, []).append(run(name, setting, quick))
        print(f"  {name}: {setting}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    report: Report = module.report(runs)
    return report


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks, print their tables.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="only show that they run")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="add all figures to those of the runs before, and compare with the last"
    )
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw pictures")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    where = machine()
    print("\n".join(f"{name}: {value}" for name, value in where.items()), end="\n\n")
    file: Path | None = arguments.json
    runs_before = json.loads(file.read_text()) if file is not None and file.exists() else []
    reports: dict[str, Report] = {}
    begun = time.monotonic()
    for name in arguments.names or NAMES:
        report = reports[name] = _found(importlib.import_module(f"benchmarks.{name}"), name, arguments.quick)
        print(f"{name}: {report}", flush=True)
        if file is not None:  # after each of them: a long run that is broken off has left what it found
            everything = {
                "machine": where,
                "quick": arguments.quick,
                "benchmarks": {each: reports[each].as_json() for each in reports},
            }
            file.write_text(json.dumps([*runs_before, everything], indent=1) + "\n")
    before = verdicts_of(runs_before[-1]) if runs_before else None
    print(summary({name: report.verdicts for name, report in reports.items()}, before))
    print(f"after {time.monotonic() - begun:.0f} s, load {' '.join(f'{load:.2f}' for load in os.getloadavg())}")
    if arguments.plot is not None:
        from ._plot import draw

        draw(reports, arguments.plot)


if __name__ == "__main__":
    main()
