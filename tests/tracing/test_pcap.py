"""scardface.tracing: what Wireshark opens."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from scardface import C_APDU, sync, tracing
from scardface.testing import SimulatedPCSC
from tests.support.cards import LogCard


def packets(capture: bytes) -> list[tuple[int, str, bytes]]:
    """GSMTAP's subtype, the sender's address and the payload of each packet, as the formats have it."""
    magic, major, minor, _, _, _, link = struct.unpack_from("=IHHiIII", capture)
    assert (magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 228)
    found, at = [], 24
    while at < len(capture):
        _, _, length, whole = struct.unpack_from("=IIII", capture, at)
        packet = capture[at + 16 : at + 16 + length]
        assert length == whole == struct.unpack_from(">H", packet, 2)[0]
        assert sum(struct.unpack(">10H", packet[:20])) % 0xFFFF == 0
        assert struct.unpack_from(">HH", packet, 20) == (4729, 4729)
        assert packet[28:31] == bytes((2, 4, 4))
        found.append((packet[40], ".".join(map(str, packet[12:16])), packet[44:]))
        at += 16 + length
    return found


def test_a_capture_has_a_packet_for_each_step(pcsc: SimulatedPCSC) -> None:
    pcsc.add_reader("B")
    pcsc.insert("B", LogCard())
    capture = io.BytesIO()
    with tracing.trace(tracing.PcapWriter(capture)), sync.SCard("A", timeout=10) as card, sync.SCard("B", timeout=10) as other:
        card.send(C_APDU(0, 0xA4, 4, 0, b"\xa0\x00", 256))
        other.send(b"\x00\x10\x00\x00\x01x")
    found = packets(capture.getvalue())
    assert [(kind, address) for kind, address, _ in found] == [
        (1, "127.0.0.1"),
        (1, "127.0.0.2"),
        (0, "127.0.0.1"),
        (0, "127.0.0.1"),
        (0, "127.0.0.2"),
    ]
    assert found[2][2] == bytes.fromhex("00A4040002A000 6103")
    assert found[3][2] == bytes.fromhex("00C0000003 6162639000")


def test_a_packet_that_is_too_long_is_cut(pcsc: SimulatedPCSC) -> None:
    capture = io.BytesIO()
    writer = tracing.PcapWriter(capture)
    step = tracing.RecordStep(1.5, 0.0, bytes(65_544), b"\x90\x00", "", "", "")
    writer(tracing.Record(1.5, 0.0, "A", "command", "", "", "", "", False, (step,)))
    [(_, _, octets)] = packets(capture.getvalue())
    assert len(octets) == 65_491


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_wireshark_reads_it(pcsc: SimulatedPCSC, tmp_path: Path) -> None:
    path = tmp_path / "card.pcap"
    with tracing.trace(tracing.PcapWriter(path)), sync.SCard("A", timeout=10) as card:
        card.send(C_APDU(0, 0xA4, 4, 0, b"\xa0\x00\x00\x00\x03", 256), C_APDU(0, 0x20, 0, 0x81, b"1234"))
    done = subprocess.run(["tshark", "-n", "-r", str(path)], capture_output=True, text=True, timeout=120, check=True)
    commands = [line.split("ISO/IEC 7816-4 ")[1] for line in done.stdout.splitlines() if "ISO/IEC 7816-4 " in line]
    assert [text[: text.index(" ")] for text in commands] == ["SELECT", "GET", "VERIFY"]
    assert "a000000003" in commands[0]
    assert "1234" not in done.stdout
