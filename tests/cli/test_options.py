"""The options that commands share."""

from __future__ import annotations

import click
import pytest

from scardface.cli._options import atr_pattern, exchange_options
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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["send", "--timeout", "abc"], "'abc' is not a valid number of seconds"),
        (["read", "1"], "'1' is not in pairs of hexadecimal digits, as 2F00 is"),
    ],
)
def test_wrong_words_are_told_in_those_of_their_kind(words: list[str], says: str, scardface: Command) -> None:
    assert says in scardface(*words).err


@pytest.mark.parametrize(
    ("texts", "fields"),
    [
        ([], {}),
        (["response-class=A0"], {"response_class": 0xA0}),
        (["fetch-after=9F"], {"fetch_after": frozenset({0x9F})}),
        (["fetch-after=62+63,response-instruction=a5", "max-steps=9"], {"max_steps": 9, "response_instruction": 0xA5}),
        (["follow-61=no", "max-bytes=0"], {"follow_61": False, "max_bytes": 0}),
        (["follow-61=yes"], {"follow_61": True}),
    ],
)
def test_how_answers_are_fetched(texts: list[str], fields: dict[str, object]) -> None:
    options = exchange_options(texts)
    assert {name: getattr(options, name) for name in fields} == fields


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "x=1",
        "response-class",
        "response-class=1G",
        "response-class=100",
        "fetch-after=77",
        "follow-61=maybe",
        "max-steps=0",
    ],
)
def test_what_is_no_way_to_fetch_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        exchange_options([text])
