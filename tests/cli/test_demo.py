"""`scardface demo`: what a newcomer sees."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scardface.cli import demo
from scardface.testing import PcscdUnavailable, PrivatePcscd
from tests.conftest import READERS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_daemon(pcscd: PrivatePcscd) -> None:
    """Stops the test run's daemon: the demo starts one of its own, and a process has room for one."""
    pcscd.stop()


@pytest.mark.usefixtures("no_daemon", "no_leaks")
def test_it_tells_the_whole_story_in_order(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many readers as this process has had: libpcsclite 2.5 takes no fewer."""
    monkeypatch.setattr(demo, "PrivatePcscd", lambda readers: PrivatePcscd(max(readers, READERS)))
    assert demo.run() == 0
    told = capsys.readouterr().out
    story = [
        "a private PC/SC daemon runs",
        "event: ReaderAdded(reader='Virtual PCD 0 00 00', initial=True)",
        "an SCard waits",
        "a FileCard is put into Virtual PCD 0 00 01",
        "acquired: Virtual PCD 0 00 01, T1, ATR 3B 87",
        "-> 00 A4 04 00",
        "<- 90 00: success",
        "-> 00 B0 81 00 00",
        "'Hello from a virtual card.'",
        "<- 90 00: success",
        "the card is taken out",
        "wait() returned",
    ]
    place = 0
    for words in story:
        assert words in told[place:], f"{words!r} is missing or in the wrong place in:\n{told}"
        place = told.index(words, place) + len(words)
    assert told.index("event: CardInserted(reader='Virtual PCD 0 00 01'") < told.index("event: CardRemoved")
    assert all(re.match(r" *\d+\.\d\d s  ", line) for line in told.splitlines())


@pytest.mark.usefixtures("pcscd")
def test_the_command_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scardface", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "wait() returned" in done.stdout


@pytest.mark.usefixtures("pcscd")
@pytest.mark.parametrize("moment", ["a private PC/SC daemon runs", "an SCard waits", "acquired", "the card is taken out"])
def test_an_interrupted_demo_says_nothing(moment: str) -> None:
    """As a terminal does it: SIGINT for the whole process group, children included."""
    with subprocess.Popen(
        [sys.executable, "-m", "scardface", "demo"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    # A shell says 130 of both: the demo's own, and, where all is so slow that the demo is over, of the interpreter on its way out.
    assert process.returncode in (130, -signal.SIGINT), errors
    assert errors == ""


@pytest.mark.usefixtures("no_leaks")
def test_without_a_daemon_it_is_shown_on_the_simulation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Unavailable:
        def __init__(self, readers: int) -> None:
            raise PcscdUnavailable("the program pcscd is missing: install the package pcscd")

    monkeypatch.setattr(demo, "PrivatePcscd", Unavailable)
    assert demo.run() == 0
    told = capsys.readouterr()
    assert told.err == ""
    first = "no private PC/SC daemon can run here: the program pcscd is missing: install the package pcscd"
    second = "a simulated PC/SC runs, with the readers Virtual Reader 0 and Virtual Reader 1"
    assert [line[9:] for line in told.out.splitlines()[:2]] == [first, second]
    story = ["a FileCard is put into Virtual Reader 1", "acquired: Virtual Reader 1, T1, ATR 3B 87", "'Hello from a virtual card.'"]
    places = [told.out.index(words) for words in [*story, "the card is taken out", "wait() returned"]]
    assert places == sorted(places)
    assert told.out.index("event: CardInserted(reader='Virtual Reader 1'") < told.out.index("event: CardRemoved")


@pytest.mark.usefixtures("no_leaks")
def test_nobody_needs_a_daemon_and_programs_may_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.run(as_json=True, virtual=True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["text"] == "a simulated PC/SC runs, with the readers Virtual Reader 0 and Virtual Reader 1"
    assert any("wait() returned" in line["text"] for line in lines)
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)
