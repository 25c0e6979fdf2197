"""Facts about pyscard and Python; the numbers are those of docs/pcsc-facts.md. What frees memory that is not its own runs apart."""

from __future__ import annotations

import asyncio
import ctypes
import enum
import signal
import subprocess
import sys

import pytest
from smartcard import scard

from scardface.errors import TIMEOUT
from scardface.testing import PrivatePcscd
from tests.support.bare import T1, in_a_process, opened, state_of, transmit, unsigned
from tests.support.conformance import Card

OPENING = """
from smartcard import scard
context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)[1]
reader = scard.SCardListReaders(context, [])[1][0]
"""


def outcome(program: str) -> str:
    """How a program of its own ends that begins with OPENING: what it printed, or the error or signal that ended it."""
    done = in_a_process(OPENING + program)
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    return done.stdout.strip() if not done.returncode else done.stderr.strip().splitlines()[-1].partition(":")[0]


def test_data_are_lists_of_numbers(card: Card, context: int, reader: str) -> None:
    """Fact 40: bytes are refused, and what is no byte is cut to one."""
    handle = opened(context, reader)
    with pytest.raises(TypeError):
        scard.SCardTransmit(handle, scard.SCARD_PCI_T1, bytes.fromhex("00a40000"))
    assert scard.SCardTransmit(handle, scard.SCARD_PCI_T1, [0x100, 0xA4, 0, 0, 0x1FF])[1] == [0xFF, 0x90, 0x00]
    assert transmit(handle, bytes.fromhex("00a40000ff"), T1) == (0, b"\xff\x90\x00")


def test_a_context_of_0(pcscd: PrivatePcscd) -> None:
    """Fact 41: an error that no code tells of, if the process lives."""
    assert outcome("print(scard.SCardListReaders(0, []))") in ("SystemError", "SIGSEGV", "SIGABRT")


def test_names_outside_ascii(pcscd: PrivatePcscd) -> None:
    """Fact 42: refused in the first entry; in another one they end the process, sooner or later."""
    assert outcome("scard.SCardGetStatusChange(context, 0, [('L\\u00e9cteur', 0)])") in ("UnicodeEncodeError", "SIGABRT", "SIGSEGV")
    often = """
for _ in range(1000):
    try:
        scard.SCardGetStatusChange(context, 0, [(reader, 0), ('L\\u00e9cteur', 0)])
    except UnicodeEncodeError:
        pass
"""
    assert outcome(often) in ("SIGABRT", "SIGSEGV")


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc tells what is allocated, from 2.33 on"
)
def test_entries_with_an_atr_leak(pcscd: PrivatePcscd) -> None:
    """Fact 43: a copy of the ATR in each call; pairs do not."""
    grown = """
import ctypes

class Mallinfo(ctypes.Structure):
    _fields_ = [("others", 7 * ctypes.c_size_t), ("uordblks", ctypes.c_size_t), ("more", 2 * ctypes.c_size_t)]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo

def grown(entry):
    for _ in range(100): scard.SCardGetStatusChange(context, 0, [entry])
    before = libc.mallinfo2().uordblks
    for _ in range(1000): scard.SCardGetStatusChange(context, 0, [entry])
    return libc.mallinfo2().uordblks - before

print(grown((reader, 0)), grown((reader, 0, [1] * 33)))
"""
    pairs, triples = map(int, outcome(grown).split())
    assert pairs < 1000 * 33 <= triples, f"{pairs} and {triples} bytes in 1,000 calls"


def test_a_negative_timeout(pcscd: PrivatePcscd) -> None:
    """Fact 44."""
    assert outcome("scard.SCardGetStatusChange(context, -1, [(reader, 0)])") in ("SystemError", "SIGABRT", "SIGSEGV")
    assert scard.INFINITE == 0x7FFFFFFF


def test_codes_have_no_sign_on_linux(context: int, reader: str) -> None:
    """Facts 21 and 45: where a C long has 64 bits."""
    assert unsigned(scard.SCARD_E_UNSUPPORTED_FEATURE) == 0x8010001F
    assert (scard.SCARD_E_UNSUPPORTED_FEATURE > 0) == (ctypes.sizeof(ctypes.c_long) == 8)
    code, _ = scard.SCardGetStatusChange(context, 0, [(reader, state_of(context, reader))])
    assert unsigned(code) == unsigned(scard.SCARD_E_TIMEOUT) == TIMEOUT


def test_what_the_binding_lacks(pcscd: PrivatePcscd) -> None:
    """Fact 46."""
    names = ("SCardListCards", "SCardLocateCards", "SCardListInterfaces", "SCARD_PRESENT", "SCardAccessStartedEvent")
    assert not [name for name in names if hasattr(scard, name)]


def test_importing_it_starts_nothing() -> None:
    """Fact 47."""
    program = (
        "import os, threading; from smartcard import scard, util, ATR\n"
        "links = (os.readlink(f'/proc/self/fd/{each}') for each in range(3, 64) if os.path.exists(f'/proc/self/fd/{each}'))\n"
        "print(threading.active_count(), sum('socket' in each for each in links))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "0"]


class Flag(enum.IntFlag):
    CHANGED = 0x2


def test_the_inverse_of_a_flag_knows_no_counter() -> None:
    """Fact 55: since Python 3.11."""
    state = 0x0005_0022
    assert state & ~int(Flag.CHANGED) == 0x0005_0020
    assert state & ~Flag.CHANGED == (0 if sys.version_info >= (3, 11) else 0x0005_0020)


def test_what_is_posted_to_a_loop_that_is_just_being_closed_is_lost() -> None:
    """Fact 77: no error tells of it, but `is_closed` does behind the post."""
    loop, posted = asyncio.new_event_loop(), []
    loop.call_soon_threadsafe(posted.append, 1)
    loop.close()
    assert loop.is_closed()
    assert posted == []
