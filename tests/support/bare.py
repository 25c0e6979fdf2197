"""The calls of `smartcard.scard` with nothing of scardface between: what tests/facts asks PC/SC itself with.

- A call answers its code, unsigned (0: success), and then what the binding gives, if anything; nothing is raised.
- What may end the process, or needs one of its own, runs in `in_a_process`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from smartcard import scard

from scardface._pcsc.reader_states import READER_MAY_BE_GONE, TRIES
from scardface.testing import PrivatePcscd, VirtualCard
from tests.support.conformance import PATIENCE

Establish = Callable[[], int]
"""SCardEstablishContext, for a test that wants several."""

EXCLUSIVE, SHARED, DIRECT = scard.SCARD_SHARE_EXCLUSIVE, scard.SCARD_SHARE_SHARED, scard.SCARD_SHARE_DIRECT
LEAVE, RESET, UNPOWER = scard.SCARD_LEAVE_CARD, scard.SCARD_RESET_CARD, scard.SCARD_UNPOWER_CARD
T0, T1, RAW = scard.SCARD_PROTOCOL_T0, scard.SCARD_PROTOCOL_T1, scard.SCARD_PROTOCOL_RAW
ANY = T0 | T1
CHANGED, UNKNOWN, EMPTY, PRESENT = 0x2, 0x4, 0x10, 0x20
IN_EXCLUSIVE_USE, INUSE = 0x80, 0x100
ATR_STRING = scard.SCARD_ATTR_ATR_STRING
GET_FEATURE_REQUEST = scard.SCARD_CTL_CODE(3400)

BOUND = 60.0
"""Seconds that a process of its own may take."""

_PCI = {T0: scard.SCARD_PCI_T0, T1: scard.SCARD_PCI_T1, RAW: scard.SCARD_PCI_RAW}


def unsigned(code: int) -> int:
    """A code as Linux gives it; Windows' and macOS' bindings give it with a sign."""
    return code & 0xFFFFFFFF


def status_change(context: int, timeout: int, *entries: tuple[str, int]) -> tuple[int, list[tuple[int, bytes]]]:
    """SCardGetStatusChange, for `timeout` ms: the code, and state and ATR of each entry.

    Made again, at most `TRIES` times, where pcscd 2.5 calls a reader unknown that is there (fact 17).
    """
    for _ in range(TRIES):
        code, states = scard.SCardGetStatusChange(context, timeout, list(entries))
        if unsigned(code) not in READER_MAY_BE_GONE or not {name for name, _ in entries} <= set(
            scard.SCardListReaders(context, [])[1]
        ):
            break
    return unsigned(code), [(unsigned(state), bytes(atr)) for _, state, atr in states]


def state_of(context: int, reader: str) -> int:
    """A reader's state as it is now, without CHANGED: fit to be waited with."""
    code, ((state, _),) = status_change(context, 0, (reader, 0))
    assert not code, hex(code)
    return state & ~CHANGED


def counter(state: int) -> int:
    """The upper half of a state: how often a card came or went."""
    return state >> 16


def list_readers(context: int) -> int:
    """The code of SCardListReaders."""
    return unsigned(scard.SCardListReaders(context, [])[0])


def connect(context: int, reader: str, share: int = SHARED, protocols: int = ANY) -> tuple[int, int, int]:
    """SCardConnect: the code, the handle, the protocol."""
    code, handle, protocol = scard.SCardConnect(context, reader, share, protocols)
    return unsigned(code), handle, protocol


def opened(context: int, reader: str, share: int = SHARED, protocols: int = ANY) -> int:
    """The handle of a connection that must succeed."""
    code, handle, _ = connect(context, reader, share, protocols)
    assert not code, hex(code)
    return handle


def transmit(handle: int, command: bytes, protocol: int = T1) -> tuple[int, bytes]:
    """SCardTransmit: the code, and the answer unless it failed."""
    code, answer = scard.SCardTransmit(handle, _PCI[protocol], list(command))
    return unsigned(code), b"" if code else bytes(answer)


def status(handle: int) -> tuple[int, int, bytes]:
    """SCardStatus: the code, and state and ATR unless it failed."""
    code, _, state, _, atr = scard.SCardStatus(handle)
    return unsigned(code), 0 if code else unsigned(state), b"" if code else bytes(atr)


def reconnect(handle: int, disposition: int = LEAVE, share: int = SHARED, protocols: int = ANY) -> int:
    """The code of SCardReconnect."""
    return unsigned(scard.SCardReconnect(handle, share, protocols, disposition)[0])


def coded(call: Callable[..., int], *args: object) -> int:
    """The code of a call that answers nothing else, SCardBeginTransaction for instance."""
    return unsigned(call(*args))


def put_in(pcscd: PrivatePcscd, reader: str, card: VirtualCard) -> None:
    """Insert a card; return when PC/SC reports it."""
    pcscd.insert(reader, card)
    pcscd.wait_for_card(reader, PATIENCE)


def take_out(pcscd: PrivatePcscd, reader: str) -> None:
    """Take a card out; return when PC/SC reports it."""
    pcscd.remove(reader)
    pcscd.wait_for_removal(reader, PATIENCE)


def in_a_process(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python of its own, which finds the same daemon."""
    words = [sys.executable, "-c", program, *args]
    return subprocess.run(words, capture_output=True, text=True, timeout=BOUND, check=False)
