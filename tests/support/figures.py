"""Figures: how often a promise is tried, and what was measured.

Rules:

- The usual run tries each promise often enough to notice when it breaks; `SCARDFACE_FIGURES=1` tries it as often as
  docs/promises.md says.
- What was measured is printed: `SCARDFACE_FIGURES=1 python -m pytest tests/promises -s` shows it.
- No figure is asserted: the machine may have something else to do. What is promised at once is shown to come before something that
  the test itself does later.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence

FULL = os.environ.get("SCARDFACE_FIGURES") == "1"
"""Whether the figures of docs/promises.md are wanted."""


def times(usual: int, full: int) -> int:
    """How often to try."""
    return full if FULL else usual


def tell(words: str) -> None:
    """A figure, to be read."""
    print(f"\n[figure] {words}", flush=True)


def spread(seconds: Sequence[float]) -> str:
    """Times in words: the median and the longest."""
    return f"median {1000 * statistics.median(seconds):.0f} ms, longest {1000 * max(seconds):.0f} ms"
