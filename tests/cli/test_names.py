"""The list of cards: where it is looked for, what fits, what is not trusted in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scardface.cli import _names
from scardface.cli._names import list_file, names_of

ATR = bytes.fromhex("3B87018031E873F4214039")

LIST = """\
# a comment
3B 87 01 80 31 E8 73 F4 21 40 39
\tthe very card
\thttps://example.org/card

3B 87 .. 80 31 E8 73 F4 21 40 39
\tof this family

3B [0-9A-F]7 01 80 31 E8 73 F4 21 40 39
\twith brackets

3b 87 01 80 31 e8 73 f4 21 40 ..
\tin small letters

3B 87 01 80 31 E8 73 F4 21 40
\tone byte short
3F 87 01 80 31 E8 73 F4 21 40 39
\tthe other convention
3B (.*)*(.*)*(.*)*X
\ta trap
3B 87 [F-A]. .. .. .. .. .. .. .. ..
\tbrackets upside down
"""


@pytest.fixture
def cards(home: Path) -> Path:
    path = home / ".cache" / "smartcard_list.txt"
    path.parent.mkdir()
    path.write_text(LIST)
    return path


def test_the_best_guess_comes_first(cards: Path) -> None:
    found = names_of(ATR)
    assert found[:2] == ("the very card", "https://example.org/card")
    assert set(found[2:]) == {"of this family", "with brackets", "in small letters"}


def test_a_storage_card_needs_no_list() -> None:
    assert names_of(bytes.fromhex("3B8F8001804F0CA000000306030001000000006A")) == ("MIFARE Standard 1K (ISO 14443 A, part 3)",)


def test_traps_are_not_walked_into(cards: Path) -> None:
    """One of them would take longer than the whole run may, which then shows where it is."""
    names_of(bytes.fromhex("3B" + "00" * 32))


def test_no_list_and_no_atr_are_no_names(cards: Path, home: Path) -> None:
    assert names_of(b"") == ()
    assert names_of(ATR, home / "none") == ()
    cards.unlink()
    assert list_file() is None
    assert names_of(ATR) == ()


def test_there_are_eight_names_at_most(home: Path) -> None:
    path = home / "list"
    path.write_text("".join(f"3B 00\n\tcard {number}\n\n" for number in range(20)))
    assert names_of(b"\x3b\x00", path) == tuple(f"card {number}" for number in range(8))


def test_where_it_is_looked_for(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    system = tmp_path / "share"
    system.mkdir()
    monkeypatch.setattr(_names, "SYSTEM", (str(system),))
    (system / "smartcard_list.txt").write_text("")
    assert list_file() == system / "smartcard_list.txt"
    (home / ".smartcard_list.txt").write_text("")
    assert list_file() == home / ".smartcard_list.txt"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "smartcard_list.txt").write_text("")
    assert list_file() == tmp_path / "smartcard_list.txt"


def test_bytes_that_are_no_text_are_read_over(home: Path) -> None:
    path = home / "list"
    path.write_bytes(b"\xff\xfe\n3B 00\n\tcaf\xe9\n")
    assert names_of(b"\x3b\x00", path) == ("caf�",)


def test_a_user_that_the_machine_does_not_know(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a container, for instance."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert list_file() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "smartcard_list.txt").touch()
    assert list_file() == tmp_path / "smartcard_list.txt"
