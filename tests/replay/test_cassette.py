"""A cassette on disk: read, written, added to."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest

from scardface import C_APDU, R_APDU, Protocol
from scardface.replay import CassetteError
from scardface.replay._cassette import append, check_writable, read, write
from scardface.replay._lines import exchange_lines
from scardface.replay._tape import Sent

ATR = bytes.fromhex("3B800181")
READ = Sent(C_APDU(0x00, 0xB0, 0x00, 0x00, b"", 4), R_APDU(b"data", 0x90, 0x00))
NEXT = Sent(C_APDU(0x00, 0xB0, 0x00, 0x04, b"", 4), R_APDU(b"", 0x6B, 0x00))

TEXT = """\
scardface cassette 1
atr 3B800181
protocol T1

00B00000 Ne=4 -> 64617461 9000
"""


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "a.cassette"
    write(path, ATR, Protocol.T1, [READ])
    assert path.read_bytes() == TEXT.encode()
    cassette = read(path)
    assert (cassette.atr, cassette.protocol, cassette.is_dump) == (ATR, Protocol.T1, False)
    assert exchange_lines(cassette.exchanges) == exchange_lines([READ])
    assert os.listdir(path.parent) == [path.name]


def test_what_is_there_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.cassette"
    write(path, ATR, Protocol.T1, [READ, READ, READ])
    write(str(path), ATR, Protocol.T1, [READ])
    assert path.read_text(encoding="utf-8") == TEXT


def test_added_behind_what_was_edited(tmp_path: Path) -> None:
    path = tmp_path / "a.cassette"
    path.write_text("# mine\n" + TEXT + "# the end, \u00fcber", encoding="utf-8")
    append(path, [NEXT])
    assert path.read_text(encoding="utf-8") == "# mine\n" + TEXT + "# the end, \u00fcber\n00B00004 Ne=4 -> 6B00\n"
    append(path, [NEXT])
    assert len(read(path).exchanges) == 3


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.cassette"
    write(path, ATR, Protocol.T1, [READ])

    def fail(self: Path, target: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        append(path, [NEXT])
    assert path.read_text(encoding="utf-8") == TEXT
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"])
def test_line_endings_and_marks_of_editors(tmp_path: Path, ending: bytes, begin: bytes) -> None:
    path = tmp_path / "a.cassette"
    path.write_bytes(begin + TEXT.encode().replace(b"\n", ending))
    assert exchange_lines(read(path).exchanges) == exchange_lines([READ])


def test_damage_is_told_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.cassette"
    path.write_text(TEXT + "00B0 -> 9000\n", encoding="utf-8")
    with pytest.raises(CassetteError) as raised:
        read(path)
    error = raised.value
    assert (error.path, error.line) == (str(path), 6)
    assert str(error).startswith(f"{path}, line 6: a command begins with four bytes")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.line) == (CassetteError, str(error), 6)
    assert str(CassetteError(path, 0, "in general")) == f"{path}: in general"


def test_what_is_no_text_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.cassette"
    path.write_bytes(TEXT.encode() + b"# \xff\n")
    with pytest.raises(CassetteError, match="line 6: not UTF-8 text"):
        read(path)


def test_a_dump_is_a_cassette(tmp_path: Path) -> None:
    path = tmp_path / "card.dump"
    path.write_text("# ATR: 3B800181\n# PROTOCOL: T=1\n#\n00B0000004\n646174619000\n", encoding="utf-8")
    cassette = read(path)
    assert cassette.is_dump
    assert exchange_lines(cassette.exchanges) == exchange_lines([READ])
    path.write_text("# ATR: 3B800181\n# PROTOCOL: T=1\n#\n00B0000004\n", encoding="utf-8")
    with pytest.raises(CassetteError, match="line 4: the last command has no response"):
        read(path)


def test_no_file() -> None:
    with pytest.raises(FileNotFoundError):
        read("there is none.cassette")


def test_no_folder_is_made_and_the_file_that_was_named_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    windows = FileNotFoundError if sys.platform == "win32" else NotADirectoryError
    for place, kind in (("none", FileNotFoundError), ("plain", windows)):
        path = tmp_path / place / "a.cassette"
        with pytest.raises(kind) as checked:
            check_writable(path)
        with pytest.raises(kind) as written:
            write(path, ATR, Protocol.T1, [READ])
        assert (checked.value.filename, written.value.filename) == (str(path), str(path))
    assert os.listdir(tmp_path) == ["plain"]


def test_what_is_no_file_or_is_read_only_is_not_replaced(tmp_path: Path) -> None:
    """To replace /dev/null by a file would be the end of it."""
    with pytest.raises(OSError, match="not a file that can be replaced"):
        check_writable(os.devnull)
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)
    path = tmp_path / "a.cassette"
    check_writable(path)
    assert os.listdir(tmp_path) == []
    path.touch()
    check_writable(path)
    assert os.listdir(tmp_path) == ["a.cassette"]


def test_a_read_only_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As seen by an ordinary user; root may write everything."""
    path = tmp_path / "a.cassette"
    path.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError) as failed:
        check_writable(path)
    assert failed.value.filename == str(path)


def test_utf_16_is_read_and_added_to(tmp_path: Path) -> None:
    """What PowerShell's `>` writes."""
    path = tmp_path / "a.cassette"
    path.write_text(TEXT.replace("\n", "\r\n"), encoding="utf-16", newline="")
    assert exchange_lines(read(path).exchanges) == exchange_lines([READ])
    append(path, [NEXT])
    assert len(read(path).exchanges) == 2
    path.write_bytes(b"\xff\xfe0")
    with pytest.raises(CassetteError, match="neither UTF-8 nor UTF-16 text"):
        read(path)
