"""How commands end: statuses, sentences, and no tracebacks."""

from __future__ import annotations

import subprocess
import sys
from asyncio import CancelledError
from pathlib import Path

import pytest

from scardface import (
    R_APDU,
    CardCommunicationError,
    CardRemovedError,
    CardTimeoutError,
    NoReaderError,
    ServiceUnavailableError,
    StatusError,
)
from scardface.cli import _failures
from scardface.cli._failures import EXITS, guarded, sentence, status_of
from scardface.replay import CassetteError, UnrecordedCommandError

ROOT = Path(__file__).resolve().parents[2]


class Group(Exception):
    """As anyio raises what happened in tasks."""

    def __init__(self, *inner: Exception) -> None:
        super().__init__("some errors")
        self.exceptions = inner


ERRORS = [
    (CardTimeoutError("no card"), 4),
    (NoReaderError("no reader"), 3),
    (ServiceUnavailableError("no service"), 3),
    (CardRemovedError("gone"), 3),
    (CardCommunicationError("bad"), 3),
    (StatusError(R_APDU(b"", 0x6A, 0x82)), 1),
    (FileNotFoundError(2, "No such file", "a.txt"), 5),
    (CassetteError("a.cassette", 3, "damaged"), 5),
    (UnrecordedCommandError("not recorded"), 5),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"), 5),
    (ZeroDivisionError("division by zero"), 70),
    (Group(NoReaderError("no reader")), 3),
    (Group(NoReaderError("no reader"), NoReaderError("no reader")), 70),
]


@pytest.mark.parametrize(("error", "status"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_is_a_sentence_and_a_status(error: Exception, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise error

    assert guarded(fail) == status
    assert status in EXITS
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("scardface: ")
    assert len(told.err.splitlines()) == 1


def test_a_status_is_handed_on() -> None:
    assert guarded(lambda: None) == 0
    assert guarded(lambda: 7) == 7


def test_a_file_is_named() -> None:
    assert sentence(FileNotFoundError(2, "No such file", "a.txt")) == "a.txt: No such file"


def test_who_has_no_service_is_sent_to_the_doctor() -> None:
    assert sentence(ServiceUnavailableError("no pcscd")) == "no pcscd; 'scardface doctor' finds out which"


def test_a_mistake_of_ours_asks_to_be_reported() -> None:
    assert sentence(ZeroDivisionError("division by zero")).endswith("please report it: ZeroDivisionError: division by zero")
    assert status_of(KeyError("x")) == 70


@pytest.mark.parametrize("kind", [KeyboardInterrupt, CancelledError])
def test_ctrl_c_says_nothing(kind: type[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise kind

    assert guarded(interrupted) == 130
    assert capsys.readouterr().err == ""


def run(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_development_mode_shows_where_a_mistake_is() -> None:
    program = "import sys; from scardface.cli._failures import guarded; sys.exit(guarded(lambda: 1 / 0))"
    assert run(program).stderr.count("\n") == 1
    shown = run(program, "-X", "dev", "-W", "ignore")
    assert "Traceback" in shown.stderr
    assert "ZeroDivisionError" in shown.stderr


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    program = (
        "import os, sys\n"
        "from scardface.cli._failures import guarded\n"
        "reading, writing = os.pipe()\n"
        "os.close(reading)\n"
        "os.dup2(writing, 1)\n"
        "sys.exit(guarded(lambda: print('to nobody')))\n"
    )
    done = run(program)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_same_in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)

        def leave() -> int:
            raise BrokenPipeError

        assert guarded(leave) == 141
        print("to nobody", flush=True)
    assert (tmp_path / "out").read_text() == ""


def test_development_mode_lets_mistakes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flags:
        dev_mode = True

    monkeypatch.setattr(sys, "flags", Flags)
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)
    assert guarded(fail_of_a_reader) == 3


def fail_of_a_reader() -> int:
    raise NoReaderError("no reader \x1b[31m")


def test_a_sentence_has_nothing_to_obey(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(fail_of_a_reader)
    assert capsys.readouterr().err == "scardface: no reader \\x1b[31m\n"


def test_standard_error_may_be_gone_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None: ...

    monkeypatch.setattr(sys, "stderr", Gone())
    _failures.say("to nobody")
