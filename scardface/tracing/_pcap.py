"""A trace as a capture file that Wireshark opens: pcap with GSMTAP, as SIM tracers write it.

Each step of a command is a packet: UDP to port 4729 (GSMTAP) with the bytes for the card and, behind them, the card's answer, which
is what Wireshark's dissector of smart card commands (`gsm_sim`) takes. The ATR of a connect is a packet, too. Control commands and
attributes are for the reader, and are left out.

The formats: https://ietf-opsawg-wg.github.io/draft-ietf-opsawg-pcap/draft-ietf-opsawg-pcap.html, and gsmtap.h of libosmocore.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from .._threads import RLock
from ._output import Output
from ._record import Record

_FILE = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 228)  # 228: LINKTYPE_IPV4
_PACKET = struct.Struct("=IIII")
_IPV4 = struct.Struct(">BBHHHBBHII")
_UDP = struct.Struct(">HHHH")
_GSMTAP = struct.Struct(">BBBBHbBIBBBB")
_PORT = 4729
_SIM = 4
_APDU, _ATR = 0, 1
_LOOPBACK = 0x7F000001
_MAX_ADDRESSES = 250
_LONGEST = 65535 - _IPV4.size - _UDP.size - _GSMTAP.size


class PcapWriter:
    """Writes a trace as pcap with GSMTAP.

    Readers are told apart by the sender's address: 127.0.0.1 for the first, 127.0.0.2, and so on. Data that may be secret are
    zeros. A packet holds 65,491 bytes; what is longer is cut there.

    Args:
        file: a path, whose file is overwritten, or a file that is open for bytes.
    """

    def __init__(self, file: str | os.PathLike[str] | BinaryIO) -> None:
        self._output: Output[BinaryIO] = Output(file, "wb")
        self._output.write(_FILE)
        self._addresses: dict[str, int] = {}
        self._lock = RLock()

    def __call__(self, record: Record) -> None:
        """Write a packet for each step."""
        if record.kind not in ("connect", "command", "transmit"):
            return
        kind = _ATR if record.kind == "connect" else _APDU
        with self._lock:
            number = self._addresses.setdefault(record.reader, len(self._addresses) % _MAX_ADDRESSES)
        for step in record.steps:
            octets = step.sent + step.received
            if octets:
                self._output.write(_packet(step.time, _LOOPBACK + number, kind, octets[:_LONGEST]))

    def close(self) -> None:
        """Close the file, if it was given as a path."""
        self._output.close()


def _packet(at: float, address: int, kind: int, octets: bytes) -> bytes:
    payload = _GSMTAP.pack(2, _GSMTAP.size // 4, _SIM, 0, 0, 0, 0, 0, kind, 0, 0, 0) + octets
    datagram = _UDP.pack(_PORT, _PORT, _UDP.size + len(payload), 0) + payload
    length = _IPV4.size + len(datagram)
    checksum = _checksum(_IPV4.pack(0x45, 0, length, 0, 0, 64, 17, 0, address, _LOOPBACK))
    packet = _IPV4.pack(0x45, 0, length, 0, 0, 64, 17, checksum, address, _LOOPBACK) + datagram
    microseconds = round(at * 1_000_000)
    return _PACKET.pack(microseconds // 1_000_000, microseconds % 1_000_000, len(packet), len(packet)) + packet


def _checksum(header: bytes) -> int:
    """Of an IPv4 header (RFC 791, 3.1)."""
    total: int = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
