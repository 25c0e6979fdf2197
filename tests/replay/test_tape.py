"""Recorded exchanges: what matches, in which order they are played, and what a command that is missing is told."""

from __future__ import annotations

import re
import sys
import threading
from typing import Any

import pytest

from scardface import C_APDU, R_APDU
from scardface.iso7816._apdu import as_command
from scardface.replay import UnrecordedCommandError
from scardface.replay._tape import Exchange, Raw, Sent, Tape

OK = R_APDU(b"", 0x90, 0x00)
READ = C_APDU(0x00, 0xB0, 0x00, 0x00, b"", 16)
PIN = b"\x19\x28\x37\x46"


def sent(command: C_APDU, line: int = 0, response: R_APDU = OK) -> Sent:
    return Sent(command, response, line=line)


def read_at(offset: int, ne: int = 16) -> C_APDU:
    return C_APDU(0x00, 0xB0, offset >> 8, offset & 0xFF, b"", ne)


def take(tape: Tape, command: C_APDU) -> Exchange | None:
    return tape.take(lambda each: isinstance(each, Sent) and each.is_of(command))


def test_a_command_matches_itself_alone() -> None:
    exchange = sent(C_APDU(0x00, 0xD6, 0x01, 0x02, b"data", 7))
    assert exchange.is_of(C_APDU(0x00, 0xD6, 0x01, 0x02, b"data", 7))
    others = [(1, 0xD6, 1, 2, b"data", 7), (0, 0xD7, 1, 2, b"data", 7), (0, 0xD6, 0, 2, b"data", 7), (0, 0xD6, 1, 0, b"data", 7)]
    others += [(0, 0xD6, 1, 2, b"datA", 7), (0, 0xD6, 1, 2, b"data", 8), (0, 0xD6, 1, 2, b"", 7)]
    assert not [fields for fields in others if exchange.is_of(C_APDU(*fields))]


def test_hidden_data_match_any_but_none() -> None:
    exchange = Sent(C_APDU(0x00, 0x20, 0x00, 0x01), OK, hides_data=True)
    assert exchange.is_of(C_APDU(0x00, 0x20, 0x00, 0x01, PIN))
    assert exchange.is_of(C_APDU(0x00, 0x20, 0x00, 0x01, b"another, and longer"))
    assert not exchange.is_of(C_APDU(0x00, 0x20, 0x00, 0x01))
    assert not exchange.is_of(C_APDU(0x00, 0x20, 0x00, 0x02, PIN))
    assert not exchange.is_of(C_APDU(0x00, 0x20, 0x00, 0x01, PIN, 256))


def test_raw_bytes_match_themselves() -> None:
    assert Raw(b"\x00\xc0\x00\x00\x10", b"\x90\x00").is_of(b"\x00\xc0\x00\x00\x10")
    assert not Raw(b"\x00\xc0\x00\x00\x10", b"\x90\x00").is_of(b"\x00\xc0\x00\x00\x11")
    hidden = Raw(b"\x00\x20\x00\x01", b"\x90\x00", hides_data=True)
    assert hidden.is_of(b"\x00\x20\x00\x01\x04" + PIN)
    assert not hidden.is_of(b"\x00\x20\x00\x02\x04" + PIN)
    assert not hidden.is_of(b"\x00\x20\x00\x01")
    assert not Raw(b"\x00\x20\x00\x01", b"\x63\xc3").is_of(b"\x00\x20\x00\x01\x04" + PIN)


def test_equal_commands_are_played_in_the_order_of_recording() -> None:
    first, second = sent(READ, 1, R_APDU(b"1", 0x90, 0)), sent(READ, 2, R_APDU(b"2", 0x90, 0))
    tape = Tape([first, second], "a.cassette")
    assert not tape.all_played
    assert [take(tape, READ), take(tape, READ), take(tape, READ)] == [first, second, None]
    assert tape.all_played
    tape.rewind()
    assert not tape.all_played
    assert take(tape, READ) is first


def test_the_order_of_different_commands_is_free() -> None:
    exchanges = [sent(read_at(offset), offset) for offset in range(5)]
    tape = Tape(exchanges, "a.cassette")
    assert [take(tape, read_at(offset)) for offset in (3, 0, 4)] == [exchanges[3], exchanges[0], exchanges[4]]
    assert tape.holds(lambda each: each.line == 1)
    assert not tape.holds(lambda each: each.line == 3)


def test_threads_never_play_the_same_exchange() -> None:
    tape = Tape([sent(READ, line) for line in range(2000)], "a.cassette")
    played: list[int] = []

    def play() -> None:
        while (found := take(tape, READ)) is not None:
            played.append(found.line)

    threads = [threading.Thread(target=play) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert sorted(played) == list(range(2000))


def test_the_nearest_are_shown() -> None:
    select = C_APDU(0x00, 0xA4, 0x04, 0x00, bytes.fromhex("A000000308"), 256)
    exchanges = [sent(select, 5), *(sent(read_at(offset), 6 + offset) for offset in range(10)), sent(read_at(3, 20), 30)]
    tape = Tape(exchanges, "some/where.cassette")
    take(tape, read_at(3))
    text = str(tape.unrecorded(read_at(3)))
    assert text.splitlines() == [
        "00B00003 Ne=16 is not recorded in some/where.cassette, or was played already. The nearest that are:",
        "  line 9: 00B00003 Ne=16 (played already)",
        "  line 10: 00B00004 Ne=16 (P2 is 04, not 03)",
        "  line 11: 00B00005 Ne=16 (P2 is 05, not 03)",
        "To record it, delete the cassette, or choose the mode 'new' or 'all'.",
    ]


@pytest.mark.parametrize(
    ("recorded", "wanted", "words"),
    [
        ((0x01, 0xA4, 0x04, 0x00, b"abcd", 256), (0x00, 0xA4, 0x04, 0x00, b"abcd", 256), "CLA is 01, not 00"),
        ((0x00, 0xA4, 0x08, 0x0C, b"abcd", 256), (0x00, 0xA4, 0x04, 0x00, b"abcd", 256), "P1 is 08, not 04, P2 is 0C, not 00"),
        ((0x00, 0xA5, 0x04, 0x00, b"abcd", 256), (0x00, 0xA4, 0x04, 0x00, b"abcd", 256), "INS is A5, not A4"),
        ((0x00, 0xA4, 0x04, 0x00, b"abXd", 256), (0x00, 0xA4, 0x04, 0x00, b"abcd", 256), "data differ from byte 3 on"),
        ((0x00, 0xA4, 0x04, 0x00, b"abc", 256), (0x00, 0xA4, 0x04, 0x00, b"abcd", 256), "3 bytes of data, not 4"),
        ((0x00, 0xA4, 0x04, 0x00, b"abcd", 16), (0x00, 0xA4, 0x04, 0x00, b"abcd", 256), "Ne is 16, not 256"),
    ],
)
def test_what_differs_is_said(recorded: Any, wanted: Any, words: str) -> None:
    text = str(Tape([sent(C_APDU(*recorded), 4)], "a.cassette").unrecorded(C_APDU(*wanted)))
    assert f"({words})" in text


def test_commands_of_the_same_kind_are_nearer_than_others() -> None:
    near = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xa0\x00\x00\x00\x03\x09", 256)
    nearer = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xa0\x00\x00\x00\x03\x08\x01", 256)
    wanted = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xa0\x00\x00\x00\x03\x08\x02", 256)
    others = [sent(C_APDU(0x00, ins, 0x04, 0x00, wanted.data, 256), ins) for ins in (0xCA, 0xCB, 0xCC)]
    text = str(Tape([*others, sent(near, 1), sent(nearer, 2)], "a.cassette").unrecorded(wanted))
    assert [line.split(":")[0] for line in text.splitlines()[1:-1]] == ["  line 2", "  line 1", "  line 202"]


def test_what_can_still_be_played_is_nearer() -> None:
    exchanges = [sent(read_at(offset), offset) for offset in (1, 2, 3, 4, 5)]
    tape = Tape(exchanges, "a.cassette")
    for offset in (2, 3, 4):
        take(tape, read_at(offset))
    text = str(tape.unrecorded(read_at(7)))
    assert re.findall(r"line (\d)", text) == ["5", "1", "4"]
    tape.rewind()
    text = str(tape.unrecorded(read_at(7)))
    assert re.findall(r"line (\d)", text) == ["1", "2", "3"]


def test_an_empty_cassette_says_so() -> None:
    assert "Nothing is.\n" in str(Tape([], "a.cassette").unrecorded(READ))


def test_no_secret_is_told() -> None:
    verify = C_APDU(0x00, 0x20, 0x00, 0x01, PIN)
    unhidden: list[Exchange] = [sent(verify, 1), Raw(bytes(verify), b"\x90\x00", line=2)]  # as in a dump, which hides nothing
    hidden = Sent(C_APDU(0x00, 0x20, 0x00, 0x02), OK, hides_data=True, line=3)
    tape = Tape([*unhidden, hidden], "a.cassette")
    error = tape.unrecorded(C_APDU(0x00, 0x20, 0x00, 0x03, PIN + b"\x55"))
    assert isinstance(error, UnrecordedCommandError)
    texts = [str(error), repr(error), repr(unhidden), repr(hidden), repr(tape)]
    assert not [text for text in texts if PIN.hex() in text.lower() or repr(PIN)[2:-1] in text]
    assert "line 1: 00200001 <4 bytes> (P2 is 01, not 03, 4 bytes of data, not 5)" in str(error)
    assert "line 2: raw 00200001 <4 bytes> (" in str(error)
    assert "line 3: 00200002 <secret> (P2 is 02, not 03)" in str(error)
    assert "<secret> (P2 is 02, not 03, has data)" in str(tape.unrecorded(C_APDU(0x00, 0x20, 0x00, 0x03)))


def test_what_was_sent_the_other_way_is_said() -> None:
    tape = Tape([Raw(bytes(READ), b"\x90\x00", line=7)], "a.cassette")
    assert "line 7: raw 00B00000 Ne=16 (sent the other way)" in str(tape.unrecorded(READ))


def test_the_command_of_what_cannot_be_decoded() -> None:
    assert as_command(bytes(READ)) == READ
    assert as_command(b"\x00\x20\x00\x01\x05abcd") == C_APDU(0x00, 0x20, 0x00, 0x01, b"\x05abcd")
    assert as_command(b"\x00\x20") == C_APDU(0x00, 0x20)
    assert len(as_command(bytes(70000)).data) == 0xFFFF
