"""Benchmarks: what the design buys, beside every alternative, in one run.

`python -m benchmarks` runs all, `python -m benchmarks NAME` one; see `__main__` for the options.

Rules of this house:

- One benchmark is one module. Its head says what is measured, against what, and what would make it unfair.
- Every contender is measured in the same run, in turns, so that a noisy machine hurts all alike. What counts is the median of the
  ratios within a round, and its spread is shown with it.
- A contender is written as its own users write it, with what its own documentation advises, and gets its arguments in the form that
  it likes best.
- scardface is used by its public names alone.
- A target that is missed is printed as missed.
"""

from __future__ import annotations
