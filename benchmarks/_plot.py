"""Pictures of reports: one bar for each contender, as small SVG files.

Rules:

- The same figures give the same file, byte for byte: no date in it, no random identifiers.
- matplotlib is needed here alone; the extra `bench` has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

from ._report import Report

__all__ = ["draw"]

_OURS, _OTHERS = "#2f6f9f", "#b8b8b8"


def draw(reports: Mapping[str, Report], folder: Path) -> None:
    """Write one picture for each report into `folder`, which is made if need be."""
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "scardface", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    for name, report in reports.items():
        _draw(report, folder / f"{name}.svg")


def _draw(report: Report, file: Path) -> None:
    from matplotlib import pyplot

    labels, values = [label for label, _ in report.bars], [value for _, value in report.bars]
    figure, axes = pyplot.subplots(figsize=(6.4, 0.5 + 0.26 * len(labels)), layout="constrained")
    colours = [_OURS if _is_ours(label) else _OTHERS for label in labels]
    bars = axes.barh(range(len(labels)), values, color=colours)
    axes.bar_label(bars, [f"{value:.3g}" for value in values], padding=2)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{report.title} ({report.axis})", fontsize=9, loc="left")
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    figure.savefig(file, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def _is_ours(label: str) -> bool:
    others = ("pyscard", "bare", "to_thread", "yubikit", "16 bare", "idle loop", "asyncio, anyio", "nothing", "standard library")
    return not label.startswith(others) and "bare tasks" not in label and "pyscard" not in label
