"""That the benchmarks run; how fast, they say themselves.

They run in a process of their own, since a process has one private daemon and this one may have it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks._docs import BEGIN, END, PAGE, with_run
from benchmarks._figures import Spread
from benchmarks._report import Report, Verdict

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 600
"""Seconds after which a run has failed; all of it takes some ten, and a multiple beside much else."""

BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py"))


def run(*arguments: str) -> str:
    """`python -m benchmarks` with these arguments: what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PCSCLITE_")}
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.mark.usefixtures("_daemon")  # where that cannot run, those of the benchmarks cannot either
def test_a_quick_run_of_all(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    run("--quick", "--json", str(file))
    [everything] = json.loads(file.read_text(encoding="utf-8"))
    assert {"date", "processor", "Python", "pcscd", "pyscard", "anyio"} <= set(everything["machine"])
    assert everything["quick"] is True
    assert sorted(everything["benchmarks"]) == BENCHMARKS
    for name, report in everything["benchmarks"].items():
        if name == "fleet" and find_spec("distributed") is None:
            continue  # its report says so
        assert report["rows"], name
        assert all(len(row) == len(report["columns"]) for row in report["rows"]), name
        assert report["bars"], name
        assert report["data"], name
        assert report["verdicts"] or name in ("busy", "idle"), "quick: no cards of 5 ms; a bare thread that waits has used no time"


@pytest.mark.usefixtures("_daemon")
def test_every_run_is_kept_and_compared_with_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert "run before" not in run("--quick", "--json", str(file), "growth")
    said = run("--quick", "--json", str(file), "growth")
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert [list(each["benchmarks"]) for each in kept] == [["growth"], ["growth"]]
    [head, _, *rows] = [line for line in said.splitlines() if line.startswith("|")]
    assert head.endswith("| run before | agrees |")
    assert len(rows) == len(kept[0]["benchmarks"]["growth"]["verdicts"])
    assert all(row.endswith((" yes |", " no |")) for row in rows)


def test_an_unknown_name_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks", "no-such"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2
    assert "no-such" in done.stderr
    assert "single_sync" in done.stderr


def test_a_verdict_says_what_was_missed() -> None:
    assert not Verdict("a", 1.2, "<=", 1.1).met
    assert "MISSED" in str(Verdict("a", 1.2, "<=", 1.1))
    assert Verdict("a", 1.1, "<=", 1.1).met
    assert not Verdict("a", 0.9, ">=", 0.95).met
    assert not Verdict("a", 2, "==", 1).met


def test_what_must_hold_is_the_far_end_of_the_spread() -> None:
    spread = Spread(0.9, 1.0, 1.1)
    assert not Verdict("a", 1.0, "<=", 1.05, spread).met
    assert Verdict("a", 1.0, "<=", 1.1, spread).met
    assert not Verdict("a", 1.0, ">=", 0.95, spread).met
    assert Verdict("a", 1.0, ">=", 0.9, spread).met


def test_two_runs_agree_where_their_spreads_overlap() -> None:
    mine = Verdict("a", 1.0, "<=", 1.05, Spread(0.9, 1.0, 1.1))
    assert Verdict.from_json(json.loads(json.dumps(mine.as_json()))) == mine
    assert mine.agrees(Verdict("a", 1.2, "<=", 1.05, Spread(1.1, 1.2, 1.3)))
    assert not mine.agrees(Verdict("a", 1.2, "<=", 1.05, Spread(1.11, 1.2, 1.3)))
    assert mine.agrees(Verdict("a", 1.1, "<=", 1.05))


def test_the_page_takes_the_table_of_a_run() -> None:
    run = {
        "machine": {"date": "today", "trio": "not installed"},
        "benchmarks": {"a": {"verdicts": [Verdict("b", 1.0, "<=", 2).as_json()]}},
    }
    page = with_run(f"before {BEGIN} old {END} after", run)
    assert page.startswith("before ")
    assert page.endswith(" after")
    assert "| a | b | 1 | <= 2 | met |\n\n1 of 1 met" in page
    assert "Date today." in page
    assert "old" not in page
    with pytest.raises(ValueError, match="no <!--"):
        with_run("nothing", run)


def test_the_page_has_a_place_for_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.index(BEGIN) < page.index(END)


def test_a_table_has_all_cells_in_line() -> None:
    lines = str(Report("title", ("who", "how long"), [("a", "1"), ("somebody", "100,000")])).splitlines()
    assert lines[0] == "title"
    assert len({len(line) for line in lines[2:5]}) == 1
