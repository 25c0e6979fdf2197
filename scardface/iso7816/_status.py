"""The meanings of status words.

Rules:

- The table is ISO/IEC 7816-4:2020, 5.6 (tables of general and of specific meanings), complete; the texts are our own.
- GlobalPlatform Card Specification 2.3.1 (clause 11) and PC/SC part 3 (2.01.09) add only what ISO leaves open. Where they give
  a status word of ISO a meaning of their own (GlobalPlatform's 6283, "card locked"), ISO's stands.
- SIMs, UICCs and their applications (3GPP TS 51.011, 9.4; ETSI TS 102 221, 10.2.1; 3GPP TS 31.102, 7.3) and MIFARE DESFire's ISO
  7816-4 framing have status words in 9xxx, which ISO leaves to applications. 91xx is used by SIMs and by DESFire: where DESFire
  has defined it, both meanings are given.
- If SW2 is in no table, SW1 alone gives the general meaning: an unknown 69xx is still "command not allowed".
- 63Cx is just a counter unless the instruction is known: after commands that compare reference data (VERIFY and its like) it counts
  the tries that are left.
- pyscard's `smartcard.sw` is not used: it follows the 1995 edition, lacks half of the words (68 83, 6A 85 to 6A 8A and more),
  calls 6400 an EEPROM error and is spread over checkers that raise instead of answering.
"""

from __future__ import annotations

__all__ = ["status_meaning"]

_WORDS: dict[int, str] = {
    0x9000: "success",
    0x6200: "warning: no information given (nothing was changed)",
    0x6281: "warning: part of the returned data may be corrupted",
    0x6282: "warning: end of file or record reached before all bytes were read, or search without success",
    0x6283: "warning: the selected file is deactivated",
    0x6284: "warning: file or data control information is badly formatted",
    0x6285: "warning: the selected file is in termination state",
    0x6286: "warning: no input from a sensor on the card",
    0x6287: "warning: at least one of the referenced records is deactivated",
    0x6300: "warning: no information given (something may have been changed)",
    0x6340: "warning: comparison without success",
    0x6381: "warning: file filled up by the last write",
    0x6400: "execution error (nothing was changed)",
    0x6401: "the card needs an immediate response",
    0x6481: "logical channel: shared access denied",
    0x6482: "logical channel: opening denied",
    0x6500: "error, no information given (something may have been changed)",
    0x6581: "memory failure",
    0x6600: "security error, no information given",
    0x6700: "wrong length",
    0x6701: "the command's format does not follow ISO 7816-4",
    0x6702: "the length of the data is not the expected one",
    0x6800: "function of the class byte not supported, no information given",
    0x6881: "logical channel not supported",
    0x6882: "secure messaging not supported",
    0x6883: "last command of the chain expected",
    0x6884: "command chaining not supported",
    0x6900: "command not allowed, no information given",
    0x6981: "command incompatible with the file structure",
    0x6982: "security status not satisfied",
    0x6983: "authentication method blocked",
    0x6984: "reference data not usable",
    0x6985: "conditions of use not satisfied",
    0x6986: "command not allowed: no current EF",
    0x6987: "expected secure messaging data objects missing",
    0x6988: "incorrect secure messaging data objects",
    0x6A00: "wrong parameters, no information given",
    0x6A80: "incorrect parameters in the command data",
    0x6A81: "function not supported",
    0x6A82: "file or application not found",
    0x6A83: "record not found",
    0x6A84: "not enough memory space in the file",
    0x6A85: "length of the data inconsistent with the TLV structure",
    0x6A86: "incorrect parameters P1-P2",
    0x6A87: "length of the data inconsistent with parameters P1-P2",
    0x6A88: "referenced data or reference data not found",
    0x6A89: "file already exists",
    0x6A8A: "DF name already exists",
    0x6B00: "wrong parameters P1-P2",
    0x6D00: "instruction not supported or invalid",
    0x6E00: "class not supported",
    0x6F00: "error, no precise diagnosis",
    # GlobalPlatform Card Specification 2.3.1: GET STATUS (11.4.3.2); general errors of key management (table 11-10).
    0x6310: "more data available (GlobalPlatform)",
    0x9484: "algorithm not supported (GlobalPlatform)",
    0x9485: "invalid key check value (GlobalPlatform)",
    # PC/SC part 3, 3.2.2.1.4: LOAD KEYS of a contactless reader.
    0x6989: "key length not correct (PC/SC part 3)",
}

_SIM: dict[int, str] = {
    0x9240: "memory problem (SIM)",
    0x9300: "the SIM toolkit is busy, the command cannot be carried out now",
    0x9400: "no EF selected (SIM)",
    0x9402: "address out of range (SIM)",
    0x9404: "file or pattern not found (SIM)",
    0x9408: "command incompatible with the type of the file (SIM)",
    0x9802: "no PIN (CHV) is initialized (SIM)",
    0x9804: "access condition not fulfilled, or PIN wrong with a try left, or authentication failed (SIM)",
    0x9808: "in contradiction with the state of the PIN (SIM)",
    0x9810: "in contradiction with the invalidation of the file (SIM)",
    0x9840: "PIN wrong or unblocking failed, no try is left: blocked (SIM)",
    0x9850: "cannot be increased, the maximum is reached (SIM)",
    0x9862: "authentication error, incorrect MAC (USIM)",
    0x9863: "authentication error, security context not supported (USIM)",
    0x9864: "authentication error, key freshness failure (USIM)",
    0x9865: "authentication error, no memory space available (USIM)",
    0x9866: "authentication error, no memory space available in EF.MUK (USIM)",
    0x62F1: "warning: more data available (UICC)",
    0x62F2: "warning: more data available, and a proactive command pending (UICC)",
    0x62F3: "warning: response data available (UICC)",
    0x63F1: "more data expected (UICC)",
    0x63F2: "more data expected, and a proactive command pending (UICC)",
}
"""3GPP TS 51.011, 9.4; ETSI TS 102 221, 10.2.1; 3GPP TS 31.102, 7.3."""

_DESFIRE: dict[int, str] = {
    0x00: "success",
    0x0C: "no change",
    0x0E: "out of memory",
    0x1C: "illegal command code",
    0x1E: "integrity error",
    0x40: "no such key",
    0x7E: "length error",
    0x9D: "permission denied",
    0x9E: "parameter error",
    0xA0: "application not found",
    0xA1: "application integrity error",
    0xAE: "authentication error",
    0xAF: "more data waits (additional frame)",
    0xBE: "boundary error",
    0xC1: "card integrity error",
    0xCA: "previous command not completed",
    0xCD: "card disabled",
    0xCE: "too many applications or files",
    0xDE: "duplicate of a file or application",
    0xEE: "memory error",
    0xF0: "file not found",
    0xF1: "file integrity error",
}
"""SW2 behind SW1 = 91: NXP AN12343 and the MF3DxH data sheets."""

_GENERAL: dict[int, str] = {
    0x62: "warning (nothing was changed)",
    0x63: "warning (something may have been changed)",
    0x64: "execution error (nothing was changed)",
    0x65: "execution error (something may have been changed)",
    0x66: "security error",
    0x67: "wrong length",
    0x68: "function of the class byte not supported",
    0x69: "command not allowed",
    0x6A: "wrong parameters",
    0x6B: "wrong parameters P1-P2",
    0x6D: "instruction not supported or invalid",
    0x6E: "class not supported",
    0x6F: "error, no precise diagnosis",
}

_COMPARING = frozenset((0x20, 0x21, 0x24, 0x25, 0x26, 0x28, 0x2C, 0x2D, 0x82, 0x86, 0x87))
"""VERIFY, CHANGE REFERENCE DATA, DISABLE and ENABLE VERIFICATION REQUIREMENT, RESET RETRY COUNTER and the AUTHENTICATE commands."""


def status_meaning(sw1: int, sw2: int, ins: int | None = None) -> str:
    """A status word in words.

    Args:
        sw1: the first status byte.
        sw2: the second status byte.
        ins: the instruction that was answered, where known; it tells what a counter (63Cx) counts.

    Returns:
        One phrase without a full stop; of a status word that nobody defined, its general meaning or "unknown status".

    ISO/IEC 7816-4:2020, 5.6.
    """
    if (text := _WORDS.get(sw1 << 8 | sw2) or _SIM.get(sw1 << 8 | sw2)) is not None:
        return text
    if sw1 == 0x61:
        return f"success, {sw2 or '256 or more'} more bytes to fetch"
    if sw1 == 0x6C:
        return f"wrong Le, the right one is {sw2 or 256}"
    if sw1 == 0x63 and sw2 >> 4 == 0xC:
        return _counter(sw2 & 0x0F, ins)
    if sw1 in (0x62, 0x64) and 0x02 <= sw2 <= 0x80:
        return f"{_GENERAL[sw1]}: the card wants to send a query of {sw2} bytes"
    if (general := _GENERAL.get(sw1)) is not None:
        return f"{general}, {'proprietary' if sw1 in (0x67, 0x6B, 0x6D, 0x6E, 0x6F) else 'unknown'} detail {sw2:02X}"
    if sw1 == 0x91:
        return _proactive(sw2)
    if sw1 in (0x9E, 0x9F):  # 9E: the answer to data download, which went wrong
        outcome = "success" if sw1 == 0x9F else "error in SIM data download"
        return f"{outcome}, {sw2 or 256} bytes to fetch (SIM)"
    if sw1 == 0x92 and sw2 < 0x10:
        return f"success, after {sw2} internal retries of the update (SIM)"
    if not 0x61 <= sw1 <= 0x9F:
        return "no valid status word"
    return "unknown status, proprietary"


def _proactive(sw2: int) -> str:
    sim = f"success, and a proactive command of {sw2 or 256} bytes to fetch (SIM, UICC)"
    desfire = _DESFIRE.get(sw2)
    return sim if desfire is None else f"{desfire} (MIFARE DESFire); or {sim}"


def _counter(count: int, ins: int | None) -> str:
    if ins in _COMPARING:
        return f"comparison failed, {count} {'try' if count == 1 else 'tries'} left" + ("" if count else ": blocked")
    return f"warning: counter is {count}" + (" (the tries left, where a PIN or a key was compared)" if ins is None else "")
