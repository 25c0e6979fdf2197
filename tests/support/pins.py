"""A virtual card with a PIN, which counts what it is asked: for those who must not block cards."""

from __future__ import annotations

from scardface import C_APDU
from scardface.testing import VirtualCard
from tests.support.cards import T1

PIN = b"1234"
VERIFY = C_APDU(0x00, 0x20, 0x00, 0x81, PIN)
READ = C_APDU(0x00, 0xB0, 0x00, 0x00, b"", 256)
"""Answered with the card's name once the PIN was verified, else 6982."""
SELECT = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xf0POOL")
FAIL = C_APDU(0x80, 0x66, 0x00, 0x00)
"""Answered with one byte, as by a card that is being pulled."""


class PinCard(VirtualCard):
    """VERIFY, until the next reset; three tries (ISO/IEC 7816-4:2020, 11.6.6).

    Attributes:
        wrong: how often a wrong PIN was sent.
        asked: how often it was asked how many tries are left.
        verified: whether the right one was.
        prepared: how often it was selected.
        commands: all of them.
    """

    def __init__(self, name: str = "card", pin: bytes = PIN, atr: bytes = T1) -> None:
        self.name = name
        self.pin = pin
        self.atr = atr
        self.left = 3
        self.wrong = self.asked = self.prepared = self.resets = self.verifications = 0
        self.verified = False
        self.commands: list[bytes] = []

    def power_on(self) -> None:
        self.verified = False

    def reset(self) -> None:
        self.verified = False
        self.resets += 1

    def process(self, command: bytes) -> bytes:
        self.commands.append(command)
        instruction, data = command[1], command[5:]
        if instruction == 0xA4:
            self.prepared += 1
            return b"\x90\x00"
        if instruction == 0x20:
            return self._verify(data)
        if instruction == 0xB0:
            return self.name.encode() + b"\x90\x00" if self.verified else b"\x69\x82"
        if instruction == 0x66:
            return b"\x90"
        return b"\x90\x00"

    def _verify(self, data: bytes) -> bytes:
        if not data:
            self.asked += 1
            return b"\x90\x00" if self.verified else b"\x69\x83" if not self.left else bytes((0x63, 0xC0 | self.left))
        if not self.left:
            return b"\x69\x83"
        self.verified = data == self.pin
        if self.verified:
            self.left = 3
            self.verifications += 1
            return b"\x90\x00"
        self.left -= 1
        self.wrong += 1
        return bytes((0x63, 0xC0 | self.left))
