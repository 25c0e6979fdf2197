"""`python -m benchmarks._docs FILE`: put the last run that FILE has (`--json`) into docs/benchmarks.md, between its two marks.

A quick run, or one that has not measured everything, is refused: its figures would stand there as if they were all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ._report import summary, verdicts_of

__all__ = ["with_run"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- the table, by python -m benchmarks._docs -->", "<!-- its end -->"


def with_run(page: str, run: dict[str, Any]) -> str:
    """The page with the table, date and machine of a run.

    Raises:
        ValueError: the page has no place for it.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN} or no {END}")
    where = ", ".join(f"{name} {value}" for name, value in run["machine"].items() if value != "not installed")
    return f"{before}{BEGIN}\n\n{summary(verdicts_of(run))}\n\n{where[0].upper()}{where[1:]}.\n\n{END}{after}"


def _main(file: str) -> None:
    from .__main__ import NAMES

    run = json.loads(Path(file).read_text(encoding="utf-8"))[-1]
    missing = [name for name in NAMES if name not in run["benchmarks"]]
    if run["quick"] or missing:
        sys.exit(f"this run does not belong there: {'it was quick' if run['quick'] else 'without ' + ', '.join(missing)}")
    PAGE.write_text(with_run(PAGE.read_text(encoding="utf-8"), run), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
