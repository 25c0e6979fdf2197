"""Virtual cards for the tests of the library itself: they answer by the instruction byte and record the commands."""

from __future__ import annotations

import threading

from scardface.testing import VirtualCard

T1 = bytes.fromhex("3B800181")
"""An ATR that offers T=1 alone."""
BOTH = bytes.fromhex("3B80800101")
"""An ATR that offers T=0 and T=1; readers choose T=1."""

ECHO, NOT_FOUND, GATE, BROKEN = 0x10, 0x20, 0x30, 0x40
"""Instructions: data comes back; 6A82; wait for `gate`, then 9000; an answer of one byte."""


class LogCard(VirtualCard):
    """Remembers commands and resets. INS says what it does, see above; any other INS is answered 9000."""

    def __init__(self, atr: bytes = T1) -> None:
        self.atr = atr
        self.commands: list[bytes] = []
        self.resets = 0
        self.power_ons = 0
        self.reached = threading.Event()
        self.gate = threading.Event()

    def power_on(self) -> None:
        self.power_ons += 1

    def reset(self) -> None:
        self.resets += 1

    def process(self, command: bytes) -> bytes:
        self.commands.append(command)
        instruction = command[1]
        if instruction == ECHO:
            return command[5:] + b"\x90\x00"
        if instruction == NOT_FOUND:
            return b"\x6a\x82"
        if instruction == BROKEN:
            return b"\x90"
        if instruction == GATE:
            self.reached.set()
            assert self.gate.wait(10), "the test never opened the gate"
        return b"\x90\x00"
