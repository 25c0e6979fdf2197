"""scardface.replay: what other programs log is played, as are traces of our own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from scardface import C_APDU, Protocol, sync, tracing
from scardface.replay import CassetteError, ReplayCard
from scardface.replay._cassette import read
from scardface.replay._tape import Raw, Sent
from scardface.testing import FileCard, SimulatedPCSC

PCSCD = """\
00000012 eventhandler.c:381 Card inserted into Reader 0
00000001 Card ATR: 3B 80 01 81
00000000 APDU: 00 A4 04 00 02 A0 00
00000162 SW: 61 03
00000060 [139] APDU: 00 C0 00 00 03
00000045 [139] SW: 61 62 63 90 00
00000060 APDU: 00 B0 00 00 00
00000045 SW: 6C 02
00000060 APDU: 00 B0 00 00 02
00000045 SW: 68 69 90 00
00000060 APDU: 00 20 00 01 04 31 32 33 34
00000045 SW: 90 00
00000060 APDU: 00 84 00 00 08
"""

OPENSC = """\
P:2846; T:0x1397 16:39:30.769 [opensc-tool] card.c:1234:match_atr_table: ATR     : 3b:80:01:81
P:2846; T:0x1397 16:39:30.769 [opensc-tool] card.c:1245:match_atr_table: ATR try : 3B:80:80:01:01
P:2846; T:0x1397 16:39:30.770 [opensc-tool] reader-pcsc.c:335:pcsc_transmit:
Outgoing APDU (19 bytes):
00 A4 04 00 0D A0 00 00 00 01 02 03 04 05 06 07 ................
08 09 00                                        ...
P:2846; T:0x1397 16:39:30.770 [opensc-tool] reader-pcsc.c:244:pcsc_internal_transmit: called
Incoming APDU (5 bytes):
61 62 63 90 00 abc..

"""

GLOBALPLATFORM_PRO = """\
# gp -d -l
A>> T=1 (4+0000) 00A40400 00
A<< (0003+2) (7ms) 616263 9000
A>> T=1 (4+0008) 00A40400 08 A000000151000000 00
A<< (0000+2) (3ms) 6A82
"""

SELECT = C_APDU(0, 0xA4, 4, 0, b"\xa0\x00", 256)


def saved(folder: Path, text: str) -> Path:
    path = folder / "log"
    path.write_text(text, encoding="utf-8")
    return path


def sent(path: Path) -> list[tuple[str, str]]:
    return [(bytes(each.command).hex(), bytes(each.response).hex()) for each in read(path).exchanges]


def test_pcscd(tmp_path: Path) -> None:
    path = saved(tmp_path, PCSCD)
    assert read(path).atr == bytes.fromhex("3B800181")
    assert sent(path) == [
        (bytes(SELECT).hex(), "6162639000"),
        ("00b0000000", "68699000"),
        ("002000010431323334", "9000"),
    ]


def test_opensc(tmp_path: Path) -> None:
    path = saved(tmp_path, OPENSC)
    assert read(path).atr == bytes.fromhex("3B800181")
    assert sent(path) == [("00a404000da000000001020304050607080900", "6162639000")]


def test_globalplatformpro(tmp_path: Path) -> None:
    path = saved(tmp_path, GLOBALPLATFORM_PRO)
    cassette = read(path)
    assert (cassette.atr, cassette.protocol, cassette.is_dump) == (bytes.fromhex("3B800181"), Protocol.T1, True)
    assert sent(path) == [("00a4040000", "6162639000"), ("00a4040008a00000015100000000", "6a82")]


def test_it_is_played(tmp_path: Path) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", ReplayCard(saved(tmp_path, PCSCD)))
        with sync.SCard("A", timeout=30) as card:
            assert card.send(SELECT).data == b"abc"
            assert card.send(C_APDU(0, 0xB0, 0, 0, b"", 256)).data == b"hi"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_trace_of_ours_plays_what_was_traced(tmp_path: Path, form: str) -> None:
    file = io.StringIO()
    writer = tracing.TextWriter(file) if form == "text" else tracing.JSONLinesWriter(file)
    commands = C_APDU(0, 0xA4, 4, 0, b"\xf0SCARDFACE", 256), C_APDU(0, 0x20, 0, 1, b"1234"), C_APDU(0, 0xB0, 0x83, 0, b"", 256)
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", FileCard())
        with tracing.trace(writer), sync.SCard("A", timeout=30) as card:
            told = card.send_all(*commands)
            raw = card.transmit(bytes.fromhex("0084000008"))
        path = saved(tmp_path, file.getvalue())
        assert [type(each) for each in read(path).exchanges] == [Sent, Sent, Sent, Raw]
        assert [each.hides_data for each in read(path).exchanges] == [False, True, False, False]
        pcsc.remove("A")
        pcsc.insert("A", ReplayCard(path))
        with sync.SCard("A", timeout=30) as card:
            assert card.send_all(*commands[:1], C_APDU(0, 0x20, 0, 1, b"0000"), *commands[2:]) == told
            assert card.transmit(bytes.fromhex("0084000008")) == raw


def test_errors_in_a_trace_are_passed_over(tmp_path: Path) -> None:
    lines = (
        "# scardface trace 1",
        '2026-11-26T16:20:01.123456Z 0.000812 "Reader \\"0\\" -> B" connect EXCLUSIVE T0 -> 3B00',
        '2026-11-26T16:20:01.123456Z 0.000812 "Reader \\"0\\" -> B" command 00840000 Ne=8 -> ! CardRemovedError: gone',
        '2026-11-26T16:20:01.123456Z 0.000812 "Reader \\"0\\" -> B" removal',
        "and something else",
    )
    cassette = read(saved(tmp_path, "\n".join(lines)))
    assert (cassette.atr, cassette.protocol, cassette.exchanges) == (b"\x3b\x00", Protocol.T0, ())


@pytest.mark.parametrize(
    "text",
    [
        "00000000 APDU: 00 A4\n00000000 SW: 90 00\n",
        "00000000 APDU: 00 A4 00 00\n00000000 SW: 90\n",
        "Outgoing APDU (5 bytes):\n00 A4 00\n",
        "Outgoing APDU (5 bytes):\nnothing\n",
        "Outgoing APDU (5 bytes):\n",
        '{"time": "2026", "kind": \n',
        '# scardface trace 1\n2026-11-26T16:20:01.123456Z 0.1 "A" command 00 -> 9000\n',
        '# scardface trace 1\n2026-11-26T16:20:01.123456Z 0.1 "A" command 00A40000 -> 90\n',
        '# scardface trace 1\n2026-11-26T16:20:01.123456Z 0.1 "A" transmit 00A40000 -> 9\n',
    ],
)
def test_what_is_damaged_is_named_by_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(CassetteError, match=r"line [12]"):
        read(saved(tmp_path, text))
