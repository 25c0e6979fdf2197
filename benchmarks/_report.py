"""Reports: what a benchmark found, as a table for people and as JSON for machines.

Rules:

- A verdict stands beside the figure and the target that it compares, whatever it says. What must hold is the far end of the
  spread that is printed, so that the next run says the same.
- JSON has all that the table has, and the figures that it was made from.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._figures import Spread

__all__ = ["Report", "Verdict", "micro", "milli", "shown", "summary", "verdicts_of"]

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
        """Whether the target is met, also at the far end of the spread."""
        far = self.value if self.spread is None else self.spread.low if self.relation == ">=" else self.spread.high
        return bool(_HOLDS[self.relation](far, self.target))

    @property
    def figure(self) -> str:
        """The figure with its quartiles."""
        quartiles = f" ({self.spread.low:.2f} to {self.spread.high:.2f})" if self.spread else ""
        return f"{self.value:.3g}{self.unit}{quartiles}"

    def agrees(self, other: Verdict) -> bool:
        """Whether the spreads of two runs overlap."""
        mine, its = (each.spread or Spread(each.value, each.value, each.value) for each in (self, other))
        return mine.low <= its.high and its.low <= mine.high

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return {
            "what": self.what,
            "value": self.value,
            "quartiles": None if self.spread is None else [self.spread.low, self.spread.high],
            "relation": self.relation,
            "target": self.target,
            "unit": self.unit,
            "met": self.met,
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Verdict:
        """What `as_json` has made."""
        quartiles = kept["quartiles"]
        spread = None if quartiles is None else Spread(quartiles[0], kept["value"], quartiles[1])
        return cls(kept["what"], kept["value"], kept["relation"], kept["target"], spread, kept["unit"])

    def __str__(self) -> str:
        return f"{self.what}: {self.figure}, target {self.relation} {self.target:g}{self.unit}: {'met' if self.met else 'MISSED'}"


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
            "verdicts": [verdict.as_json() for verdict in self.verdicts],
            "notes": self.notes,
            "axis": self.axis,
            "bars": [list(bar) for bar in self.bars],
            "data": self.data,
        }


def verdicts_of(run: dict[str, Any]) -> dict[str, list[Verdict]]:
    """The verdicts of a run that was kept as JSON, by benchmark."""
    return {name: [Verdict.from_json(kept) for kept in report["verdicts"]] for name, report in run["benchmarks"].items()}


def summary(found: Mapping[str, Sequence[Verdict]], before: Mapping[str, Sequence[Verdict]] | None = None) -> str:
    """Every verdict by benchmark, as a table of Markdown.

    Args:
        before: those of another run, to be shown beside them, with whether their spreads overlap.
    """
    head = ["benchmark", "measured", "figure (quartiles)", "target", "verdict", *(["run before", "agrees"] if before else [])]
    rows = [head, ["---"] * len(head)]
    for name, verdicts in found.items():
        known = {verdict.what: verdict for verdict in before.get(name, ())} if before else {}
        for verdict in verdicts:
            target = f"{verdict.relation} {verdict.target:g}{verdict.unit}"
            row = [name, verdict.what, verdict.figure, target, "met" if verdict.met else "**MISSED**"]
            if before:
                other = known.get(verdict.what)
                row += ["", ""] if other is None else [other.figure, "yes" if verdict.agrees(other) else "no"]
            rows.append(row)
    met = sum(verdict.met for verdicts in found.values() for verdict in verdicts)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{met} of {len(rows) - 2} met, each at the far end of its quartiles."


def micro(seconds: float) -> str:
    """Microseconds, for a table."""
    return f"{seconds * 1e6:,.1f}"


def milli(seconds: float) -> str:
    """Milliseconds, for a table."""
    return f"{seconds * 1e3:,.2f}"


def shown(ratio: Spread) -> str:
    """A ratio and its quartiles, for a table."""
    return f"{ratio.median:.3f} ({ratio.low:.2f} to {ratio.high:.2f})"
