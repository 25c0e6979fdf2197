"""Reports: what a benchmark found, as a table for people and as JSON for machines.

Rules:

- A verdict stands beside the figure and the target that it compares, whatever it says.
- JSON has all that the table has, and the figures that it was made from.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ._figures import Spread

__all__ = ["Report", "Verdict", "micro", "milli", "shown"]

_HOLDS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Verdict:
    """A figure and its target.

    Attributes:
        what: what was measured.
        value: the figure.
        relation: how it should stand to the target: "<=", "<", ">=" or "==".
        target: the target.
        spread: the figure's quartiles, where it has any.
        unit: of both.
    """

    what: str
    value: float
    relation: str
    target: float
    spread: Spread | None = None
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return bool(_HOLDS[self.relation](self.value, self.target))

    def __str__(self) -> str:
        quartiles = f" ({self.spread.low:.2f} to {self.spread.high:.2f})" if self.spread else ""
        verdict = "met" if self.met else "MISSED"
        return f"{self.what}: {self.value:.3g}{self.unit}{quartiles}, target {self.relation} {self.target:g}{self.unit}: {verdict}"


@dataclass
class Report:
    """What a benchmark found.

    Attributes:
        title: what was measured.
        columns: the table's head.
        rows: the table.
        verdicts: one for each target.
        notes: what else a reader has to know.
        bars: for the picture: label and figure of each bar, and what the figure is.
        data: all figures, for JSON.
    """

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bars: list[tuple[str, float]] = field(default_factory=list)
    axis: str = ""
    data: Any = None

    def __str__(self) -> str:
        table = [self.columns, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        lines = [self.title, ""]
        for row in table:
            cells = [
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  " + "  ".join(cells).rstrip())
        lines += ["", *(f"  {verdict}" for verdict in self.verdicts), *(f"  Note: {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "verdicts": [
                {
                    "what": verdict.what,
                    "value": verdict.value,
                    "quartiles": None if verdict.spread is None else [verdict.spread.low, verdict.spread.high],
                    "relation": verdict.relation,
                    "target": verdict.target,
                    "unit": verdict.unit,
                    "met": verdict.met,
                }
                for verdict in self.verdicts
            ],
            "notes": self.notes,
            "axis": self.axis,
            "bars": [list(bar) for bar in self.bars],
            "data": self.data,
        }


def micro(seconds: float) -> str:
    """Microseconds, for a table."""
    return f"{seconds * 1e6:,.1f}"


def milli(seconds: float) -> str:
    """Milliseconds, for a table."""
    return f"{seconds * 1e3:,.2f}"


def shown(ratio: Spread) -> str:
    """A ratio and its quartiles, for a table."""
    return f"{ratio.median:.3f} ({ratio.low:.2f} to {ratio.high:.2f})"
