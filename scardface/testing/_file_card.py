"""A small card with files and a PIN, for tests, and as an example of a card (ISO/IEC 7816-4:2020).

Rules:

- Commands: SELECT, READ BINARY, UPDATE BINARY, VERIFY, GET CHALLENGE, class 00 only; with T=0 also GET RESPONSE. Each method names
  its clause. A refused command changes nothing except what its clause says.
- `process` is the transport layer: it parses the command and formats the answer by the card's protocol. The methods below it are
  independent of the protocol: command in, data and status word out.
- T=1: the command comes as a whole, with short or extended length fields. Without Le there is no data in the answer. An Le that is
  too small is answered 6Cxx, except where Le says how much to read.
- T=0 (ISO/IEC 7816-3:2006, 12.2), strictly: a header of five bytes, and P3 bytes of data if they go to the card. Nothing follows
  them; an answer is fetched: 61xx, GET RESPONSE. The card sends exactly as many bytes as P3 says, or 6Cxx.
- Without power the card forgets the current files, the verification, and the data for GET RESPONSE. The retry counter stays.
"""

from __future__ import annotations

import secrets
from hmac import compare_digest

from .._enums import Protocol
from ..iso7816._apdu import C_APDU
from ._card_files import DF, EF, MF, all_dfs, check_range, control_parameters, tlv
from ._virtual_card import VirtualCard

__all__ = ["FileCard"]

SELECT, READ_BINARY, UPDATE_BINARY, VERIFY, GET_CHALLENGE, GET_RESPONSE = 0xA4, 0xB0, 0xD6, 0x20, 0x84, 0xC0
_CARD_SENDS = (READ_BINARY, GET_CHALLENGE, GET_RESPONSE)
"""Commands whose P3 is Le. T=0 cannot show the direction of five bytes; the instruction decides it."""

_PIN_REFERENCE = 0x01
_MAX_CHALLENGE = 256

_OK = 0x9000
_END_OF_FILE = 0x6282
_WRONG_LENGTH = 0x6700
_CHAINING_NOT_SUPPORTED = 0x6884
_SECURITY_STATUS_NOT_SATISFIED = 0x6982
_BLOCKED = 0x6983
_CONDITIONS_NOT_SATISFIED = 0x6985
_NO_CURRENT_EF = 0x6986
_FILE_NOT_FOUND = 0x6A82
_NOT_ENOUGH_SPACE = 0x6A84
_INCORRECT_P1_P2 = 0x6A86
_REFERENCE_NOT_FOUND = 0x6A88
_OFFSET_OUTSIDE = 0x6B00
_UNKNOWN_INSTRUCTION = 0x6D00
_UNKNOWN_CLASS = 0x6E00

_HISTORICAL_BYTES = bytes.fromhex("80 31 E8 73 F4 21")
"""12.1.1: COMPACT-TLV; card service data (selection by name, EF.DIR read with READ BINARY, an MF); card capabilities (selection by
name, partial name, path and identifier, short EF identifiers; data units of a byte), whose third byte depends on the protocol."""


def _example_files() -> DF:
    """EF.DIR, and one application: a text, a long file, a file behind the PIN. Names that begin with F are never assigned."""
    name = b"\xf0SCARDFACE"
    directory = tlv(0x61, tlv(0x4F, name) + tlv(0x50, b"example"))
    text = EF(0x0001, b"Hello from a virtual card.", sfi=1)
    long = EF(0x0002, bytes(range(256)) * 4, sfi=2)
    private = EF(0x0003, b"only after VERIFY", sfi=3, read_needs_pin=True)
    return DF(MF, files=[EF(0x2F00, directory, sfi=30), DF(0x5000, name, [text, long, private])])


class _Refused(Exception):
    """Ends a command with a status word and no data."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


class FileCard(VirtualCard):
    """A card with files and a PIN.

    Without arguments: MF (3F00) with EF.DIR (2F00) and the application F0 "SCARDFACE" (5000), in which 0001 is a short text, 0002
    has 1,024 bytes, and 0003 is read after VERIFY only. Short EF identifiers are 30 for EF.DIR, then 1, 2, 3. UPDATE BINARY needs
    VERIFY everywhere.

    Attributes:
        mf: the master file with everything in it; may be read and changed.
        protocol: Protocol.T1 or Protocol.T0; the ATR declares that one and no other.
        tries: wrong PINs that are left until the PIN is blocked.
        verified: whether the PIN was verified since the card was powered.
    """

    def __init__(self, mf: DF | None = None, *, protocol: Protocol = Protocol.T1, pin: bytes = b"1234", tries: int = 3) -> None:
        """Make a card.

        Args:
            mf: the files; None: the example described above.
            protocol: Protocol.T1, or Protocol.T0 for a card that keeps strictly to T=0.
            pin: the PIN, as VERIFY (P2 = 01) brings it.
            tries: how many wrong PINs in a row block it, 1 to 15.

        Raises:
            ValueError: an argument is out of its range, or the MF is not called 3F00.
        """
        check_range("tries", tries, 1, 15)
        if protocol not in (Protocol.T0, Protocol.T1):
            raise ValueError("protocol is Protocol.T0 or Protocol.T1")
        self.mf: DF = _example_files() if mf is None else mf
        if self.mf.file_id != MF:
            raise ValueError("the identifier of the MF is 3F00")
        self.protocol = protocol
        self.atr: bytes = _answer_to_reset(protocol)
        self.tries: int = tries
        self._all_tries = tries
        self._pin = pin
        self.power_on()

    def power_on(self) -> None:
        self.verified: bool = False
        self._df = self.mf
        self._ef: EF | None = None
        self._waiting = b""  # for GET RESPONSE

    # The transport layer

    def process(self, command: bytes) -> bytes:
        """The answer to `command`, in the form of the card's protocol."""
        try:
            data, status = self._process_t0(command) if self.protocol is Protocol.T0 else self._process_t1(command)
        except _Refused as refusal:
            data, status = b"", refusal.status
        return data + status.to_bytes(2, "big")

    def _process_t1(self, command: bytes) -> tuple[bytes, int]:
        """A command in any of the encodings of 5.2."""
        try:
            apdu = C_APDU.from_bytes(command)
        except ValueError:
            raise _Refused(_WRONG_LENGTH) from None
        data, status = self._execute(apdu)
        if not apdu.le:
            return b"", status
        if len(data) > apdu.le:
            raise _Refused(_wrong_le(len(data)))
        return data, status

    def _process_t0(self, command: bytes) -> tuple[bytes, int]:
        """A header, and data for the card if the instruction has any (ISO/IEC 7816-3:2006, 12.2)."""
        waiting, self._waiting = self._waiting, b""  # any other command in between discards it
        if len(command) < 5:
            raise _Refused(_WRONG_LENGTH)
        cla, ins, p1, p2, p3 = command[:5]
        if ins in _CARD_SENDS:
            if len(command) > 5:
                raise _Refused(_WRONG_LENGTH)
            apdu = C_APDU(cla, ins, p1, p2, b"", p3 or 256)
            if ins == GET_RESPONSE:
                return self._get_response(apdu, waiting)
            data, status = self._execute(apdu)
            if len(data) != apdu.le:
                raise _Refused(_wrong_le(len(data)))
            return data, status
        if len(command) != 5 + p3:
            raise _Refused(_WRONG_LENGTH)
        data, status = self._execute(C_APDU(cla, ins, p1, p2, command[5:], 256))
        self._waiting = data
        return b"", _more(len(data)) if data else status

    def _get_response(self, apdu: C_APDU, waiting: bytes) -> tuple[bytes, int]:
        """GET RESPONSE (ISO/IEC 7816-3:2006, 12.2.5): the data of the last command, at once or in parts."""
        _check_class(apdu)
        if not waiting:
            raise _Refused(_CONDITIONS_NOT_SATISFIED)
        if apdu.le > len(waiting):
            self._waiting = waiting
            raise _Refused(_wrong_le(len(waiting)))
        self._waiting = waiting[apdu.le :]
        return waiting[: apdu.le], _more(len(self._waiting)) if self._waiting else _OK

    # The commands

    def _execute(self, apdu: C_APDU) -> tuple[bytes, int]:
        _check_class(apdu)
        if apdu.ins == SELECT:
            return self._select(apdu)
        if apdu.ins == READ_BINARY:
            return self._read_binary(apdu)
        if apdu.ins == UPDATE_BINARY:
            return self._update_binary(apdu)
        if apdu.ins == VERIFY:
            return self._verify(apdu)
        if apdu.ins == GET_CHALLENGE:
            return self._get_challenge(apdu)
        raise _Refused(_UNKNOWN_INSTRUCTION)

    def _select(self, apdu: C_APDU) -> tuple[bytes, int]:
        """SELECT (11.2.2): by file identifier (P1 = 00), by DF name or its first bytes (04), by path from the MF (08)."""
        template = {0x00: 0x6F, 0x04: 0x62, 0x0C: None}  # P2, bits 4 and 3: FCI, FCP, nothing
        wanted, occurrence = apdu.p2 & 0xFC, apdu.p2 & 0x03
        if wanted not in template or occurrence not in ((0, 2) if apdu.p1 == 0x04 else (0,)):
            raise _Refused(_INCORRECT_P1_P2)
        if apdu.p1 == 0x00:
            found = self._by_identifier(apdu.data)
        elif apdu.p1 == 0x04:
            found = self._by_name(apdu.data, following=occurrence == 2)
        elif apdu.p1 == 0x08:
            found = self._by_path(apdu.data)
        else:
            raise _Refused(_INCORRECT_P1_P2)
        self._df, self._ef = found
        tag = template[wanted]
        return (b"" if tag is None else tlv(tag, control_parameters(self._ef or self._df))), _OK

    def _by_identifier(self, data: bytes) -> tuple[DF, EF | None]:
        """7.3.1: the MF (also without data), the current DF and what is in it, the DF around it and the DFs in that."""
        if data in (b"", MF.to_bytes(2, "big")):
            return self.mf, None
        if len(data) != 2:
            raise _Refused(_WRONG_LENGTH)
        around = next((df for df in all_dfs(self.mf) if self._df in df.files), self.mf)
        near = [*self._df.files, self._df, around, *(file for file in around.files if isinstance(file, DF))]
        return self._place(self._df, _find(near, data))

    def _by_path(self, data: bytes) -> tuple[DF, EF | None]:
        """7.3.1: identifiers from the MF on, without the MF's own."""
        if not data or len(data) % 2:
            raise _Refused(_WRONG_LENGTH)
        df, ef = self.mf, None
        for start in range(0, len(data), 2):
            if ef is not None:
                raise _Refused(_FILE_NOT_FOUND)
            df, ef = self._place(df, _find(df.files, data[start : start + 2]))
        return df, ef

    def _by_name(self, data: bytes, *, following: bool) -> tuple[DF, EF | None]:
        """7.3.1: the first DF whose name begins so, or the one that follows the current DF."""
        matching = [df for df in all_dfs(self.mf) if df.name and df.name.startswith(data)]
        if following:
            matching = matching[matching.index(self._df) + 1 :] if self._df in matching else []
        if not matching:
            raise _Refused(_FILE_NOT_FOUND)
        return matching[0], None

    @staticmethod
    def _place(df: DF, found: EF | DF) -> tuple[DF, EF | None]:
        """The current DF and EF once `found`, met from `df`, is selected."""
        return (df, found) if isinstance(found, EF) else (found, None)

    def _read_binary(self, apdu: C_APDU) -> tuple[bytes, int]:
        """READ BINARY (11.3.3): Le bytes from the offset on; 256 and 65,536 mean all there are."""
        ef, offset = self._locate(apdu)
        self._require_pin(ef.read_needs_pin)
        if not apdu.le:
            raise _Refused(_WRONG_LENGTH)
        if offset >= len(ef.content):
            raise _Refused(_OFFSET_OUTSIDE)
        data = ef.content[offset : offset + apdu.le]
        return data, _END_OF_FILE if len(data) < apdu.le and apdu.le not in (256, 65536) else _OK

    def _update_binary(self, apdu: C_APDU) -> tuple[bytes, int]:
        """UPDATE BINARY (11.3.5): the data take the place of what is there; files do not grow."""
        ef, offset = self._locate(apdu)
        self._require_pin(ef.update_needs_pin)
        if not apdu.data:
            raise _Refused(_WRONG_LENGTH)
        if offset >= len(ef.content):
            raise _Refused(_OFFSET_OUTSIDE)
        end = offset + len(apdu.data)
        if end > len(ef.content):
            raise _Refused(_NOT_ENOUGH_SPACE)
        ef.content = ef.content[:offset] + apdu.data + ef.content[end:]
        return b"", _OK

    def _locate(self, apdu: C_APDU) -> tuple[EF, int]:
        """11.3.2: P1 = 100xxxxx has a short EF identifier, which selects, and P2 is the offset; else P1-P2 is it, in 15 bits."""
        if not apdu.p1 & 0x80:
            if self._ef is None:
                raise _Refused(_NO_CURRENT_EF)
            return self._ef, apdu.p1 << 8 | apdu.p2
        if apdu.p1 & 0x60:
            raise _Refused(_INCORRECT_P1_P2)
        sfi = apdu.p1 & 0x1F
        ef = next((file for file in self._df.files if isinstance(file, EF) and file.sfi == sfi), None)
        if ef is None:
            raise _Refused(_FILE_NOT_FOUND)
        self._ef = ef
        return ef, apdu.p2

    def _require_pin(self, needed: bool) -> None:
        if needed and not self.verified:
            raise _Refused(_SECURITY_STATUS_NOT_SATISFIED)

    def _verify(self, apdu: C_APDU) -> tuple[bytes, int]:
        """VERIFY (11.6.6), P2 = 01. Without data it tells where things stand: 9000, or how many tries are left."""
        if apdu.p1 or apdu.p2 != _PIN_REFERENCE:
            raise _Refused(_INCORRECT_P1_P2 if apdu.p1 else _REFERENCE_NOT_FOUND)
        if not self.tries:
            raise _Refused(_BLOCKED)
        if apdu.data:
            self.verified = compare_digest(apdu.data, self._pin)
            self.tries = self._all_tries if self.verified else self.tries - 1
        return b"", _OK if self.verified else 0x63C0 | self.tries

    def _get_challenge(self, apdu: C_APDU) -> tuple[bytes, int]:
        """GET CHALLENGE (11.6.3): Le random bytes."""
        if apdu.p1 or apdu.p2:
            raise _Refused(_INCORRECT_P1_P2)
        if not 0 < apdu.le <= _MAX_CHALLENGE:
            raise _Refused(_WRONG_LENGTH)
        return secrets.token_bytes(apdu.le), _OK


def _check_class(apdu: C_APDU) -> None:
    if apdu.cla:
        raise _Refused(_CHAINING_NOT_SUPPORTED if apdu.cla == 0x10 else _UNKNOWN_CLASS)


def _more(count: int) -> int:
    """61xx: so many bytes can be fetched; 00 stands for 256 or more (5.3.4)."""
    return 0x6100 | min(count, 256) & 0xFF


def _wrong_le(count: int) -> int:
    """6Cxx: Le is wrong, so many bytes there are; 00 stands for 256 (5.6)."""
    return 0x6C00 | min(count, 256) & 0xFF


def _find(files: list[EF | DF], identifier: bytes) -> EF | DF:
    for file in files:
        if file.file_id == int.from_bytes(identifier, "big"):
            return file
    raise _Refused(_FILE_NOT_FOUND)


def _answer_to_reset(protocol: Protocol) -> bytes:
    """ISO/IEC 7816-3:2006, 8.2: TS, T0, for T=1 also TD1 and, since it is not T=0 alone, the check character TCK."""
    if protocol is Protocol.T0:
        historical = _HISTORICAL_BYTES + b"\x00"
        return bytes((0x3B, len(historical))) + historical
    historical = _HISTORICAL_BYTES + b"\x40"  # card capabilities, third byte: extended lengths
    rest = bytes((0x80 | len(historical), 0x01)) + historical
    check = 0
    for octet in rest:
        check ^= octet
    return b"\x3b" + rest + bytes((check,))
