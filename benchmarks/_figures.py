"""Figures: medians, quartiles and ratios of what was measured.

Rules:

- A round is one turn of each contender, one after the other. A ratio is taken within a round, of the medians of two turns, so that
  what slows the machine down for longer than a turn cancels out. What is told is the median of those ratios, and their quartiles.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Rounds", "Spread", "merged", "percentile", "ratios", "spread", "spread_of"]

Rounds = Mapping[str, Sequence[Sequence[float]]]
"""What a contest measured: contender, round, and each single time of that turn in seconds."""


class Spread(NamedTuple):
    """A median between its quartiles."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of `values`, at least one."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)


def spread_of(rounds: Sequence[Sequence[float]]) -> Spread:
    """Median and quartiles of all single times."""
    return spread([value for turn in rounds for value in turn])


def percentile(values: Iterable[float], percent: int) -> float:
    """The value below which `percent` per cent of `values` are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def ratios(rounds: Rounds, contender: str, reference: str) -> Spread:
    """How many times as long as `reference` a contender took."""
    pairs = zip(rounds[contender], rounds[reference], strict=True)
    return spread([statistics.median(mine) / statistics.median(its) for mine, its in pairs])


def merged(runs: Iterable[Rounds]) -> dict[str, list[Sequence[float]]]:
    """The rounds of several runs, one after the other."""
    rounds: dict[str, list[Sequence[float]]] = {}
    for run in runs:
        for contender, turns in run.items():
            rounds.setdefault(contender, []).extend(turns)
    return rounds
