"""Dumps of apdu4j, as cassettes. The texts are of the form that its DumpFormat, its LoggingCardTerminal and its tests have."""

from __future__ import annotations

import pytest

from scardface import C_APDU, Protocol
from scardface.replay._dump import is_dump, parse_dump
from scardface.replay._lines import MalformedLineError, exchange_lines

LOGGED = """\
# Generated on Mon, 1 Jan 2024 12:00:00 +0000 by apdu4j
# Using Some Reader 00 00
# ATR: 3B80800101
# PROTOCOL: T=1
#
# Sent
00A4040000
# Received in 40ms
6F108408A000000003000000A5049F6501FF9000

# Sent
80500000080102030405060708
# Received in 1s50ms
6a88
"""
HEAD = ["# ATR: 3B00", "# PROTOCOL: T=0", "#"]


def numbered(text: str) -> list[tuple[int, str]]:
    return list(enumerate(text.splitlines(), 1))


def test_a_dump() -> None:
    assert is_dump(numbered(LOGGED))
    atr, protocol, exchanges = parse_dump(numbered(LOGGED))
    assert (atr, protocol) == (bytes.fromhex("3B80800101"), Protocol.T1)
    assert [each.line for each in exchanges] == [7, 12]
    assert exchange_lines(exchanges) == [
        "00A40400 Ne=256 -> 6F108408A000000003000000A5049F6501FF 9000",
        "80500000 0102030405060708 -> 6A88",
    ]
    assert exchanges[0].apdu == C_APDU(0x00, 0xA4, 0x04, 0x00, b"", 256)


def test_steps_of_a_protocol_are_raw() -> None:
    rows = ["00A4040002 3F00", "6110", "00C0000010", 16 * "AA" + "9000", "00B0000000", "6C1A", "00B00000050102", "6700"]
    _, _, exchanges = parse_dump(numbered("\n".join([*HEAD, *rows])))
    assert exchange_lines(exchanges) == [
        "raw 00A40400023F00 -> 6110",
        f"00C00000 Ne=16 -> {16 * 'AA'} 9000",
        "raw 00B0000000 -> 6C1A",
        "raw 00B00000050102 -> 6700",
    ]


@pytest.mark.parametrize(
    ("head", "atr", "protocol"),
    [
        ([], "3B800181", Protocol.T1),
        (["# card via some reader"], "3B800181", Protocol.T1),
        (["# PROTOCOL: T=0"], "3B00", Protocol.T0),
        (["# ATR: 3B00"], "3B00", Protocol.T1),
        (["# PROTOCOL: T=CL"], "3B800181", Protocol.T1),
        (["#ATR 3B00", "# ATR:3B65000020", "# PROTOCOL:T=0"], "3B65000020", Protocol.T0),
    ],
)
def test_a_head_may_be_left_out(head: list[str], atr: str, protocol: Protocol) -> None:
    """GlobalPlatformPro writes none; what it leaves open has to be a card that can be spoken to."""
    lines = numbered("\n".join([*head, "00A4040000", "# 24ms", "6F009000"]))
    assert is_dump(lines)
    found = parse_dump(lines)
    assert found[:2] == (bytes.fromhex(atr), protocol)
    assert exchange_lines(found[2]) == ["00A40400 Ne=256 -> 6F00 9000"]


@pytest.mark.parametrize(
    "text", ["", "# a comment\n", "select\n9000\n", "scardface cassette 1\n# ATR: 3B00\n", "atr 3B00\n", "# PROTOCOL: T=1\n"]
)
def test_what_is_no_dump(text: str) -> None:
    assert not is_dump(numbered(text))


@pytest.mark.parametrize(
    ("lines", "number", "words"),
    [
        (["# ATR: 3B00", "# PROTOCOL: T=2"], 2, "the protocol of a dump is one of T=0, T=1, T=CL"),
        (["# ATR: 3B0", "# PROTOCOL: T=1"], 1, "the ATR: not pairs of hexadecimal digits"),
        (["# ATR: " + 34 * "3B", "# PROTOCOL: T=1"], 1, "an ATR has at most 33 bytes"),
        ([*HEAD, "00A40400"], 4, "the last command has no response"),
        ([*HEAD, "00A404", "9000"], 4, "a command has at least 4 bytes"),
        ([*HEAD, "00A40400", "90"], 5, "a response has at least 2 bytes"),
        ([*HEAD, "00A4040", "9000"], 4, "the command: not pairs of hexadecimal digits"),
        ([*HEAD, "00A40400", "# 40ms", "error"], 6, "the response: not pairs of hexadecimal digits"),
    ],
)
def test_damage_is_named_by_its_line(lines: list[str], number: int, words: str) -> None:
    assert is_dump(numbered("\n".join(lines)))
    with pytest.raises(MalformedLineError) as raised:
        parse_dump(numbered("\n".join(lines)))
    assert words in str(raised.value)
    assert raised.value.line == number
