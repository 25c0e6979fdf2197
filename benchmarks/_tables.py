"""The table of a contest: each contender in each setting, with its ratio to the reference.

Rules:

- A setting is where a contest took place. "all cores": as a program runs; every thread that is woken may wake up on another core,
  which on a virtual machine costs more than all that is measured here. "one core": program, daemon and cards share one core, so
  that nothing counts but what is computed; these figures repeat to a few per cent.
- The runs of a setting are processes of their own, since one process differs from the next by where its memory happens to lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._figures import Rounds, merged, ratios, spread_of
from ._report import Report, Verdict, micro, shown

__all__ = ["CORES", "Runs", "add_contest", "cores_of", "repeated", "verdict"]

Runs = Mapping[str, Sequence[Any]]
"""What each setting's runs measured."""

CORES = ("all cores", "one core")

COLUMNS = ("contender", "setting", "median", "quartiles", "ratio to the reference")


def repeated(settings: Sequence[str], times: int, quick: bool) -> list[str]:
    """The runs to make: each setting so many times, in turns; once if it is quick."""
    return list(settings[:1]) if quick else [setting for _ in range(times) for setting in settings]


def cores_of(setting: str) -> str:
    """Which of `CORES` a setting names; the first if none."""
    return next((cores for cores in CORES if cores in setting), CORES[0])


def add_contest(
    report: Report,
    runs: Runs,
    reference: Callable[[str], str],
    formatted: Callable[[float], str] = micro,
) -> dict[str, dict[str, list[Sequence[float]]]]:
    """Add the rows and bars of a contest to a report.

    Args:
        reference: a contender's reference.
        formatted: a time for the table.

    Returns:
        Setting to rounds.
    """
    everything = {}
    for setting, measured in runs.items():
        rounds = everything[setting] = merged(measured)
        for contender in rounds:
            times, its = spread_of(rounds[contender]), reference(contender)
            ratio = ratios(rounds, contender, its)
            quartiles = f"{formatted(times.low)} to {formatted(times.high)}"
            own = shown(ratio) if contender != its else "1"
            report.rows.append((contender, setting, formatted(times.median), quartiles, own))
            if setting == next(iter(runs)):
                report.bars.append((contender, times.median))
    return everything


def verdict(rounds: Rounds, contender: str, reference: str, target: float, setting: str) -> Verdict:
    """A contender's time, at most a multiple of its reference's."""
    ratio = ratios(rounds, contender, reference)
    return Verdict(f"{contender} / {reference}, {setting}", ratio.median, "<=", target, ratio)
