"""Who else has PC/SC open: names of programs, where /proc tells, and nothing anywhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scardface._pcsc import other_programs as _holders
from scardface._pcsc.other_programs import other_programs

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd
    from tests.support.foreign import Foreign

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

ME = os.getuid() if sys.platform == "linux" else 0
MAPPED = "7f00-7f01 r-xp 00000000 fe:00 1 /usr/lib/x86_64-linux-gnu/libpcsclite.so.1.0.0\n"
OTHERS = "7f00-7f01 r-xp 00000000 fe:00 1 /usr/lib/x86_64-linux-gnu/libc.so.6\n"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc of our own making."""
    monkeypatch.setattr(_holders, "_PROC", str(tmp_path))
    return tmp_path


def add(proc: Path, pid: int, name: str | None, maps: str | None) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    if name is not None:
        (folder / "comm").write_text(f"{name}\n")
    if maps is not None:
        (folder / "maps").write_text(maps)


def test_programs_with_the_library_are_named(proc: Path) -> None:
    add(proc, 11, "scdaemon", OTHERS + MAPPED)
    add(proc, 12, "bash", OTHERS)
    (proc / "self").mkdir()
    (proc / "meminfo").write_text(MAPPED)
    assert list(other_programs()) == ["scdaemon (pid 11)"]


def test_this_program_is_no_other(proc: Path) -> None:
    add(proc, os.getpid(), "python", MAPPED)
    assert list(other_programs()) == []


def test_a_program_whose_maps_cannot_be_read_is_left_out(proc: Path) -> None:
    add(proc, 11, "another user's", None)
    assert list(other_programs()) == []


def keep_to_itself(proc: Path, monkeypatch: pytest.MonkeyPatch, pid: int, uid: int) -> None:
    """As a program that is not dumpable: what it has mapped cannot be read. (Root could, so the refusal is made here.)"""
    (proc / str(pid) / "status").write_text(f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
    read = Path.read_text

    def refuse(path: Path, *args: Any) -> str:
        if path == proc / str(pid) / "maps":
            raise PermissionError(13, "Permission denied")
        return read(path, *args)

    monkeypatch.setattr(Path, "read_text", refuse)


@pytest.mark.parametrize(
    ("name", "uid", "told"),
    [
        ("scdaemon", ME, ["scdaemon (pid 11)"]),
        ("ssh-pkcs11-help", ME, ["ssh-pkcs11-help (pid 11)"]),
        ("scdaemon", ME + 1, []),
        ("ssh-agent", ME, []),
    ],
)
def test_a_program_for_cards_that_lets_nobody_look(
    proc: Path, monkeypatch: pytest.MonkeyPatch, name: str, uid: int, told: list[str]
) -> None:
    """Fact 66: scdaemon on Debian 13."""
    add(proc, 11, name, None)
    keep_to_itself(proc, monkeypatch, 11, uid)
    assert list(other_programs()) == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["python3", "/srv/kiosk.py", "--pin", "1234"], "python3 kiosk.py"),
        (["python3", "-m", "scardface", "watch"], "python3 -m scardface"),
        (["python3", "-mscardface", "watch"], "python3 -m scardface"),
        (["python3", "-Im", "scardface"], "python3 -m scardface"),
        (["python3", "-c", "print('secret')"], "python3 -c"),
        (["python3", "-Wignore", "-X", "dev", "-u", "kiosk.py"], "python3 kiosk.py"),
        (["python3", "-W", "ignore", "--check-hash-based-pycs", "always", "kiosk.py"], "python3 kiosk.py"),
        (["python3", "-", "1234"], "python3 -"),
        (["python3"], "python3"),
        (["python3", "-m"], "python3 -m"),
        (["python3", "-W"], "python3"),
        (["python3", "/srv/" + 80 * "k"], "python3 " + 52 * "k" + "..."),
        ([], "python3"),
    ],
)
def test_a_python_program_is_named_by_what_python_runs(proc: Path, words: list[str], told: str) -> None:
    add(proc, 11, "python3", MAPPED)
    (proc / "11" / "cmdline").write_bytes("\0".join([*words, ""]).encode())
    assert list(other_programs()) == [f"{told} (pid 11)"]


def test_other_programs_are_not_named_by_their_arguments(proc: Path) -> None:
    add(proc, 11, "pcsc_scan", MAPPED)
    (proc / "11" / "cmdline").write_bytes(b"pcsc_scan\0-n\0")
    assert list(other_programs()) == ["pcsc_scan (pid 11)"]


def test_a_program_that_ends_meanwhile(proc: Path) -> None:
    add(proc, 11, None, MAPPED)
    assert list(other_programs()) == ["a program (pid 11)"]


def test_names_that_are_no_text(proc: Path) -> None:
    add(proc, 11, "", MAPPED)
    (proc / "11" / "comm").write_bytes(b"\xff\xfe\n")
    (proc / "11" / "maps").write_bytes(b"\xff" + MAPPED.encode())
    assert list(other_programs()) == ["\ufffd\ufffd (pid 11)"]


def test_a_bounded_number(proc: Path) -> None:
    for pid in range(100, 150):
        add(proc, pid, "browser", MAPPED)
    assert len(other_programs()) == 8


def test_the_newest_come_first_whatever_their_numbers(proc: Path) -> None:
    """Numbers begin anew; a name may hold blanks and parentheses."""
    for pid, start in ((300, 50), (20, 70), (40, 60)):
        add(proc, pid, "x", MAPPED)
        fields = " ".join(str(number) for number in range(4, 22))
        (proc / str(pid) / "stat").write_text(f"{pid} (a) b) S {fields} {start} 0 0")
    add(proc, 50, "x", MAPPED)
    (proc / "50" / "stat").write_text("no such thing")
    add(proc, 60, "x", MAPPED)
    assert [program.split()[2] for program in other_programs()] == ["20)", "40)", "300)", "60)", "50)"]


def test_no_proc_at_all(proc: Path) -> None:
    proc.rmdir()
    assert list(other_programs()) == []


def test_a_real_program_is_found(pcscd: PrivatePcscd, foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_holders, "_MAX_NAMED", 1_000_000)  # others may run beside this test
    foreign.establish()
    named = [program for program in other_programs() if program.endswith(f"(pid {foreign.pid})")]
    assert len(named) == 1
    assert not named[0].startswith("(pid")
    foreign.close()
    assert not [program for program in other_programs() if program.endswith(f"(pid {foreign.pid})")]
