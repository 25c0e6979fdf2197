"""A virtual card with files of every structure, beyond 32 KiB, and a PIN: strictly by ISO/IEC 7816-4:2020, T=0 and T=1."""

from __future__ import annotations

from dataclasses import dataclass, field

from scardface import C_APDU
from scardface.testing import VirtualCard
from tests.support.cards import T1

TRANSPARENT, FIXED, VARIABLE, CYCLIC = 0x01, 0x02, 0x04, 0x06


@dataclass
class File:
    """An EF.

    Attributes:
        structure: the file descriptor byte.
        content: of a transparent one.
        records: of the others; a cyclic one's newest is the first.
        tell: whether the card tells of its size and structure.
    """

    structure: int = TRANSPARENT
    content: bytearray = field(default_factory=bytearray)
    records: list[bytes] = field(default_factory=list)
    tell: bool = True


class Refused(Exception):
    """Ends a command with a status word."""


def tlv(tag: int, value: bytes) -> bytes:
    """Written here anew, so that it does not have the library's mistakes."""
    head = tag.to_bytes((tag.bit_length() + 7) // 8, "big")
    size = len(value)
    if size < 0x80:
        return head + bytes([size]) + value
    length = size.to_bytes(1 if size < 0x100 else 2 if size < 0x10000 else 3, "big")
    return head + bytes([0x80 | len(length)]) + length + value


class IsoCard(VirtualCard):
    """Answers SELECT, READ and UPDATE BINARY (even and odd), READ and UPDATE RECORD, VERIFY; notes every command."""

    def __init__(self, files: dict[int, File] | None = None, *, pin: bytes = b"1234", tries: int = 3, tells: bool = True) -> None:
        self.atr = T1
        self.files = files or {}
        self.pin, self.tries, self.most, self.tells = pin, tries, tries, tells
        self.verified = False
        self.current: File | None = None
        self.commands: list[bytes] = []
        self.fcp_only = False

    def process(self, command: bytes) -> bytes:
        self.commands.append(command)
        apdu = C_APDU.from_bytes(command)
        handlers = {0xA4: self.select, 0x20: self.verify, 0xB2: self.read_record, 0xDC: self.update_record}
        handlers |= {0xB0: self.read, 0xB1: self.read, 0xD6: self.update, 0xD7: self.update}
        try:
            handler = handlers.get(apdu.ins)
            if handler is None:
                raise Refused(0x6D00)
            data = handler(apdu)
            status = 0x9000
        except Refused as refused:
            data, status = b"", refused.args[0]
        if len(data) > apdu.le:
            data, status = b"", 0x6C00 | (len(data) & 0xFF)
        return data + status.to_bytes(2, "big")

    def select(self, apdu: C_APDU) -> bytes:
        template = {0x00: 0x6F, 0x04: 0x62, 0x0C: None}[apdu.p2]
        if self.fcp_only and template != 0x62:
            raise Refused(0x6A86)
        if apdu.p1 == 0x08:
            if apdu.data[:2] != b"\x50\x00" or len(apdu.data) != 4:
                raise Refused(0x6A82)
        elif apdu.p1 != 0x00 or len(apdu.data) != 2:
            raise Refused(0x6A86)
        number = int.from_bytes(apdu.data[-2:], "big")
        if number == 0x5000:
            return tlv(0x6F, tlv(0x82, b"\x38") + tlv(0x84, b"\xf0SCARDFACE"))
        self.current = self.files.get(number)
        if self.current is None:
            raise Refused(0x6A82)
        if template is None or not self.current.tell:
            return b""
        return tlv(template, self.control(self.current) + tlv(0x83, apdu.data[-2:]))

    @staticmethod
    def control(file: File) -> bytes:
        if file.structure == TRANSPARENT:
            size = len(file.content)
            return tlv(0x80, size.to_bytes(4 if size > 0xFFFF else 2, "big")) + tlv(0x82, b"\x01\x21")
        longest = max(map(len, file.records), default=0)
        return tlv(0x82, bytes([file.structure, 0x21, longest >> 8, longest & 0xFF, len(file.records)]))

    def place(self, apdu: C_APDU) -> tuple[int, bytes]:
        """Offset and data of a command for data units."""
        if self.current is None:
            raise Refused(0x6986)
        if self.current.structure != TRANSPARENT:
            raise Refused(0x6981)
        if not apdu.ins & 1:
            return apdu.p1 << 8 | apdu.p2, apdu.data
        data = apdu.data
        if (apdu.p1, apdu.p2, data[:1]) != (0, 0, b"\x54"):
            raise Refused(0x6A80)
        end = 2 + data[1]
        return int.from_bytes(data[2:end], "big"), data[end:]

    def read(self, apdu: C_APDU) -> bytes:
        offset, rest = self.place(apdu)
        assert self.current is not None
        if rest if apdu.ins & 1 else apdu.data:
            raise Refused(0x6A80)
        if offset >= len(self.current.content):
            raise Refused(0x6B00)
        if not apdu.ins & 1:
            return bytes(self.current.content[offset : offset + apdu.le])
        head = next(size for size in (2, 3, 4) if size == 4 or apdu.le - size < (0, 0, 0x80, 0x100)[size])
        return tlv(0x53, bytes(self.current.content[offset : offset + apdu.le - head]))

    def update(self, apdu: C_APDU) -> bytes:
        offset, data = self.place(apdu)
        assert self.current is not None
        if apdu.ins & 1:
            head = 2 if data[1] < 0x80 else 3 if data[1] == 0x81 else 4
            assert data == tlv(0x53, data[head:])
            data = data[head:]
        if offset + len(data) > len(self.current.content):
            raise Refused(0x6A84)
        self.current.content[offset : offset + len(data)] = data
        return b""

    def record(self, apdu: C_APDU) -> list[bytes]:
        if self.current is None:
            raise Refused(0x6986)
        if self.current.structure == TRANSPARENT:
            raise Refused(0x6981)
        return self.current.records

    def read_record(self, apdu: C_APDU) -> bytes:
        records = self.record(apdu)
        if apdu.p2 != 0x04:
            raise Refused(0x6A86)
        if not 1 <= apdu.p1 <= len(records):
            raise Refused(0x6A83)
        return records[apdu.p1 - 1]

    def update_record(self, apdu: C_APDU) -> bytes:
        records = self.record(apdu)
        assert self.current is not None
        if self.current.structure == CYCLIC:
            if (apdu.p1, apdu.p2) != (0, 0x03):
                raise Refused(0x6A86)
            self.current.records = [apdu.data, *records[:-1]]
            return b""
        if apdu.p2 != 0x04:
            raise Refused(0x6A86)
        if not 1 <= apdu.p1 <= len(records):
            raise Refused(0x6A83)
        records[apdu.p1 - 1] = apdu.data
        return b""

    def verify(self, apdu: C_APDU) -> bytes:
        if apdu.p2 != 0x81:
            raise Refused(0x6A88)
        if not apdu.data and not self.tells:
            raise Refused(0x6700)
        if not self.tries:
            raise Refused(0x6983)
        if apdu.data:
            self.verified = apdu.data == self.pin
            self.tries = self.most if self.verified else self.tries - 1
        if not self.verified:
            raise Refused(0x63C0 | self.tries)
        return b""
