"""The options that commands share."""

from __future__ import annotations

import click
import pytest

from scardface.cli._options import atr_pattern
from tests.support.command_line import Command

ATR = bytes.fromhex("3B87018031E873F4214039")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3B87", True),
        ("3b 87 .. 80", True),
        ("3B:87", True),
        ("87", False),
        ("3B 0A", False),
        (r"\x31\xe8", True),
        (r"^\x31", False),
        (r"^\x3b.{9}\x39\Z", True),
    ],
)
def test_an_atr_is_meant_by_digits_or_by_a_pattern(text: str, found: bool) -> None:
    assert (atr_pattern(text).search(ATR) is not None) is found


def test_digits_are_no_pattern() -> None:
    assert atr_pattern("2A2A").search(b"**")
    assert not atr_pattern("2A2A").search(b"\x2b")
    assert atr_pattern("..0A").search(b"\x0a\x0a")


@pytest.mark.parametrize("text", ["(", "\u20ac", "[z-a]"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no regular expression"):
        atr_pattern(text)


@pytest.mark.parametrize(
    "words",
    [
        ["send", "--atr", "("],
        ["send", "--timeout", "-1"],
        ["send", "--timeout", "nan"],
        ["atr", "--timeout", "nan"],
        ["readers", "--loud"],
    ],
)
def test_wrong_options_are_wrong_usage(words: list[str], scardface: Command) -> None:
    done = scardface(*words, "--virtual")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert f"'scardface {words[0]} --help' tells more" in done.err
