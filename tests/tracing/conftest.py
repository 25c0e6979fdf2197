"""A simulated reader with a T=0 card that takes several steps for a command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scardface._session import trace_hook
from scardface.testing import SimulatedPCSC, VirtualCard


class Steps(VirtualCard):
    """T=0: answers 61xx and 6Cxx as cards do, and VERIFY by 63C2."""

    def __init__(self, atr: bytes = b"\x3b\x00") -> None:
        self.atr = atr

    def process(self, command: bytes) -> bytes:
        ins = command[1]
        if ins == 0xA4:
            return b"\x61\x03"
        if ins == 0xC0:
            return b"abc\x90\x00"
        if ins == 0xB0:
            return b"\x6c\x05" if command[4] != 5 else b"12345\x90\x00"
        if ins == 0x20:
            return b"\x63\xc2"
        return b"\x90\x00"


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        simulated.insert("A", Steps())
        yield simulated
        assert trace_hook.receivers == ()
