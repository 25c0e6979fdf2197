"""How commands end: statuses, sentences, and no tracebacks."""

from __future__ import annotations

import errno
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
    assert sentence(ServiceUnavailableError("silent", 0x8010000A)) == "silent; 'scardface doctor' finds out why"


def test_a_mistake_of_ours_asks_to_be_reported() -> None:
    assert sentence(ZeroDivisionError("division by zero")).endswith("please report it: ZeroDivisionError: division by zero")
    assert status_of(KeyError("x")) == 70


def test_ctrl_c_as_a_class_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    """In an import, for instance."""

    class Field:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    assert guarded(lambda: type("Options", (), {"field": Field()}) and None) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, CancelledError])
def test_ctrl_c_says_nothing(kind: type[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise kind

    assert guarded(interrupted) == 130
    assert capsys.readouterr().err == ""


def test_ctrl_c_before_the_first_step_of_a_loop_says_nothing(recwarn: pytest.WarningsRecorder) -> None:
    async def main() -> None:
        """Never runs."""

    def interrupted() -> int:
        coroutine = main()
        raise KeyboardInterrupt(coroutine)

    assert guarded(interrupted) == 130
    assert not recwarn.list


def run(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
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
    _failures.print_error("to nobody")


def shell(line: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command as a shell starts it: `$@` in the line are Python and its words."""
    if sys.platform == "win32":
        pytest.skip("there is no such shell")
    command = ["sh", "-c", line, "sh", sys.executable, "-m", "scardface", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("readers", "--virtual"), ("send", "--virtual", "00A40000"), ("demo", "--virtual"), ("doctor", "--virtual")]
)
def test_without_a_standard_output_nothing_is_begun(words: tuple[str, ...]) -> None:
    done = shell('"$@" >&-', *words)
    assert (done.returncode, done.stderr) == (
        5,
        "scardface: standard output is closed, so there is nowhere to print to; '>/dev/null' does without\n",
    )
    assert shell('"$@" >&- 2>&-', *words).returncode == 5


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_the_other_streams_may_be_closed(closed: str) -> None:
    for words in (("readers", "--virtual"), ("send", "--virtual", "00A40000"), ("send", "--virtual", "--trace", "00A40000")):
        done = shell(f'"$@" {closed}', *words)
        assert done.returncode == 0
        assert "Traceback" not in done.stdout + done.stderr
    done = shell(f'"$@" {closed}', "send", "--virtual", "--reader", "nosuch", "00A40000")
    assert (done.returncode, done.stdout) == (3, ""), "what goes wrong is not printed among the results"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("words", [("readers", "--virtual"), ("readers", "--virtual", "--json"), ("demo", "--virtual")])
def test_a_full_disk_is_told_once(words: tuple[str, ...]) -> None:
    done = shell('"$@" >/dev/full', *words)
    assert (done.returncode, done.stderr) == (5, "scardface: standard output: No space left on device\n")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("demo", "--virtual"), ("readers", "--virtual"), ("watch", "--virtual", "--json"), ("--help",)])
def test_whoever_reads_may_leave_any_command(words: tuple[str, ...]) -> None:
    """In `demo` tasks print, so the error comes in a group of errors."""
    command = [sys.executable, "-m", "scardface", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


@pytest.mark.parametrize(
    "error",
    [
        Group(BrokenPipeError()),
        Group(Group(BrokenPipeError(), BrokenPipeError())),
        Group(NoReaderError("no reader"), BrokenPipeError()),
    ],
)
def test_a_reader_that_left_is_found_in_groups(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "out").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)

        def fail() -> int:
            raise error

        assert guarded(fail) == 141
    assert capsys.readouterr().err == ""


def test_on_windows_a_reader_that_left_is_an_invalid_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python tells it there of a pipe that is closed at its other end."""

    class Closed:
        def flush(self) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        def fileno(self) -> int:
            raise ValueError("no file")

    def fail() -> int:
        raise Group(OSError(errno.EINVAL, "Invalid argument"))

    monkeypatch.setattr(sys, "stdout", Closed())
    for platform, status in (("linux", 5), ("win32", 141)):
        monkeypatch.setattr(sys, "platform", platform)
        assert guarded(fail) == status
