"""Descriptions of the bytes of an ATR (ISO/IEC 7816-3:2006, clause 8).

Rules:

- `ATR` says which byte is which; here they are described.
- From TD2 on, the bytes after a TD are parameters of the protocol that it names, and global parameters after T=15 (8.2.3).
- Any bytes are explained as far as possible, and never raise; missing and superfluous bytes are reported.
"""

from __future__ import annotations

from functools import reduce
from operator import xor
from typing import NamedTuple

from ._atr import ATR
from ._historical import explain_historical

_F = (372, 372, 558, 744, 1116, 1488, 1860, 0, 0, 512, 768, 1024, 1536, 2048, 0, 0)
_F_MAX = (4.0, 5.0, 6.0, 8.0, 12.0, 16.0, 20.0, 0, 0, 5.0, 7.5, 10.0, 15.0, 20.0, 0, 0)
_D = (0, 1, 2, 4, 8, 16, 32, 64, 12, 20, 0, 0, 0, 0, 0, 0)
_CLOCK_STOP = ("not supported", "state L", "state H", "no preference")
_CLASSES = ((0x01, "A (5 V)"), (0x02, "B (3 V)"), (0x04, "C (1.8 V)"))


class ATRPart(NamedTuple):
    """Some bytes of an ATR and their description.

    Attributes:
        name: their name in ISO/IEC 7816-3; "missing" and "extra" for what is wrong.
        octets: the bytes.
        meaning: what they mean.
    """

    name: str
    octets: bytes
    meaning: str


def explain_atr(octets: bytes) -> list[ATRPart]:
    """Every byte of an ATR, in order.

    Args:
        octets: any bytes.

    Returns:
        Its parts, each with a description; together they are the ATR, without gaps.
    """
    atr = ATR(octets)
    if not atr:
        return [ATRPart("missing", b"", "no ATR at all: the card is mute, or there is none")]
    rows = [ATRPart("TS", atr[:1], _ts(atr[0]))]
    if len(atr) > 1:
        rows.append(ATRPart("T0", atr[1:2], f"{_announced(1, atr[1] >> 4)}; {atr[1] & 0x0F} historical bytes"))
    for name, octet, protocol in atr.interface_bytes:
        rows.append(ATRPart(name, bytes((octet,)), _meaning(name[1], int(name[2:]), protocol, octet)))
    rows += [ATRPart("historical", part, meaning) for part, meaning in explain_historical(atr)]
    if atr.tck is not None:
        rows.append(ATRPart("TCK", bytes((atr.tck,)), _tck(atr)))
    if atr.extra:
        rows.append(ATRPart("extra", atr.extra, "more bytes than were announced"))
    if atr.missing:
        rows.append(ATRPart("missing", b"", _missing(atr.missing)))
    return rows


def _missing(what: str) -> str:
    if what == "T0":
        return "T0, which says what follows"
    if what == "TCK":
        return "TCK, the check character, which has to be there"
    return f"{what}, which was announced" if what.startswith("T") else what


def _tck(atr: ATR) -> str:
    if atr.is_tck_right:
        return "check character, right"
    wanted = reduce(xor, atr[1 : len(atr) - len(atr.extra) - 1])
    return f"check character, wrong: it should be {wanted:02X}"


def _ts(octet: int) -> str:
    known = {0x3B: "direct convention: high is 1, b1 first", 0x3F: "inverse convention: low is 1, b8 first"}
    return known.get(octet, "neither 3B nor 3F: not the ATR of a card of ISO/IEC 7816-3")


def _announced(index: int, bits: int) -> str:
    names = [f"T{letter}{index}" for bit, letter in enumerate("ABCD") if bits >> bit & 1]
    return f"{', '.join(names)} follow{'' if len(names) > 1 else 's'}" if names else "no interface bytes follow"


def _meaning(letter: str, index: int, protocol: int, octet: int) -> str:
    if letter == "D":
        return _td(index, octet)
    if index == 1:
        return {"A": _ta1, "B": _tb1, "C": _tc1}[letter](octet)
    if index == 2:
        return {"A": _ta2, "B": _tb2, "C": _tc2}[letter](octet)
    if protocol == 15:
        return {"A": _ta15, "B": _tb15, "C": _reserved}[letter](octet)
    if protocol == 1:
        return {"A": _ta_t1, "B": _tb_t1, "C": _tc_t1}[letter](octet)
    return f"a parameter of T={protocol}"


def _td(index: int, octet: int) -> str:
    protocol = octet & 0x0F
    if protocol == 15:
        what = "global interface bytes (T=15)"
    else:
        what = f"protocol T={protocol}" + {0: ", bytes at a time", 1: ", blocks", 14: ", not standardised"}.get(protocol, "")
        what += ", offered first" if index == 1 else ""
    return f"{what}; {_announced(index + 1, octet >> 4)}"


def _ta1(octet: int) -> str:
    """8.3, tables 7 and 8."""
    clock, divider = _F[octet >> 4], _D[octet & 0x0F]
    if not clock or not divider:
        return "clock rate and baud rate factors, reserved values"
    most = _F_MAX[octet >> 4]
    return (
        f"Fi {clock}, Di {divider}: {clock / divider:g} clock cycles a bit; {4_000_000 * divider // clock:,} bit/s at 4 MHz, "
        f"{round(most * 1_000_000) * divider // clock:,} bit/s at the highest clock, {most:g} MHz"
    )


def _tb1(octet: int) -> str:
    return "programming voltage (deprecated, to be ignored)" + ("" if octet & 0x1F else ": none is needed")


def _tc1(octet: int) -> str:
    if octet == 255:
        return "extra guard time: as short as the protocol allows"
    return f"extra guard time: {octet} bits more between characters" if octet else "extra guard time: none"


def _ta2(octet: int) -> str:
    change = "cannot change it" if octet & 0x80 else "can change it after a reset"
    by = "parameters as the reader knows them" if octet & 0x10 else "parameters from these interface bytes"
    return f"specific mode, protocol T={octet & 0x0F}; the card {change}; {by}"


def _tb2(octet: int) -> str:
    return "programming voltage in tenths of a volt (deprecated, to be ignored)"


def _tc2(octet: int) -> str:
    return f"T=0 waiting time: WI {octet}, {octet * 960:,} bits times Fi/F" if octet else "T=0 waiting time: reserved value 0"


def _ta_t1(octet: int) -> str:
    return f"T=1: the card takes blocks of up to {octet} bytes (IFSC)" if 0 < octet < 255 else "T=1: block size, a reserved value"


def _tb_t1(octet: int) -> str:
    return f"T=1 waiting times: BWI {octet >> 4} for blocks, CWI {octet & 0x0F} for characters"


def _tc_t1(octet: int) -> str:
    return f"T=1: blocks are checked by {'CRC' if octet & 1 else 'LRC'}"


def _ta15(octet: int) -> str:
    classes = ", ".join(volts for bit, volts in _CLASSES if octet & bit) or "none that is known"
    return f"clock stop: {_CLOCK_STOP[octet >> 6]}; voltage classes: {classes}"


def _tb15(octet: int) -> str:
    if not octet:
        return "contact C6 is not used"
    return "contact C6 is used as the manufacturer says" if octet & 0x80 else "contact C6 is used as a standard says"


def _reserved(octet: int) -> str:
    return "reserved"
