"""A card behind a secure channel: the other end of `scardface.scp03`, in front of any virtual card.

Rules (GlobalPlatform Card Specification 2.3, Amendment D, 1.2; the clauses are its own):

- INITIALIZE UPDATE, EXTERNAL AUTHENTICATE and MANAGE CHANNEL are answered here. Other commands go to the card inside: in a session
  those that are secured, with the security taken off, and the answer is secured; without one, and in other logical channels, those
  that are not, as they came but for the channel.
- In a session a command that is not secured is refused, 6982, and so is a secured one without a session. A wrong MAC ends the
  session, as does what takes the power away. Only one is open at a time, in the channel that INITIALIZE UPDATE came in.
- The protocol is the inner card's, by its ATR. Chained commands are put together before their MAC is checked. On T=1 an answer that
  does not fit into a short Le is fetched with GET RESPONSE; others that do not fit are refused, 6Cxx, with the command counted.
- The code is written from the card's side, and shares with `scardface.scp03` no more than the algorithms of clause 4. They need the
  extra `scp`, which is asked for when such a card is made.
"""

from __future__ import annotations

import secrets
from hmac import compare_digest
from typing import TYPE_CHECKING

from .._enums import Lengths, Protocol
from ..errors import SCardError
from ..iso7816._apdu import C_APDU
from ..iso7816._atr import ATR
from ..iso7816._exchange import ExchangeOptions, exchange, resolve_lengths, run_steps
from ._card_files import check_range
from ._virtual_card import VirtualCard

if TYPE_CHECKING:
    from ..scp03 import Keys

__all__ = ["Scp03Card"]

_OK = 0x9000
_WRONG_LENGTH = 0x6700
_SECURITY_STATUS_NOT_SATISFIED = 0x6982
_NOT_AUTHENTICATED = 0x6300
_KEYS_NOT_FOUND = 0x6A88
_INCORRECT_P1_P2 = 0x6A86
_NO_MORE_CHANNELS = 0x6A81
_LEVELS = {0x01: 0x00, 0x03: 0x00, 0x11: 0x20, 0x13: 0x20, 0x33: 0x60}
"""Table 7-6, and what of table 5-1 each level needs."""

_C_DECRYPTION, _R_MAC, _R_ENCRYPTION = 0x02, 0x10, 0x20


class _Refused(Exception):
    """Ends a command with a status word and no data."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


class _Session:
    """What the card knows of a session."""

    def __init__(self, channel: int, enc: bytes, mac: bytes, rmac: bytes, host_cryptogram: bytes) -> None:
        self.channel = channel
        self.enc, self.mac, self.rmac = enc, mac, rmac
        self.host_cryptogram = host_cryptogram
        self.level = 0  # until EXTERNAL AUTHENTICATE
        self.chaining = bytes(16)
        self.counter = 0


class Scp03Card(VirtualCard):
    """A card that opens a secure channel by SCP03, and hands on to another card what comes through it.

    Attributes:
        card: the card inside.
        sequence_counter: how many sessions were opened with these keys.
        level: the security level of the session that is open; 0 if none is.
    """

    def __init__(
        self,
        card: VirtualCard,
        keys: Keys,
        *,
        key_version: int = 0x30,
        i: int = 0x70,
        aid: bytes = bytes.fromhex("A000000151000000"),
        diversification_data: bytes = bytes(10),
    ) -> None:
        """Make a card.

        Args:
            card: the card inside, which needs to know nothing of secure channels.
            keys: the static keys.
            key_version: their version number, 1 to 255.
            i: what it is configured for (table 5-1): 0x01 S16 in place of S8, 0x10 a pseudo-random card challenge in place of a
                random one, 0x20 R-MAC, 0x60 R-MAC and R-ENCRYPTION.
            aid: of the application that computes the pseudo-random challenge.
            diversification_data: 10 bytes.

        Raises:
            ValueError: an argument is out of its range.
            ImportError: the extra `scp` is not installed.
        """
        from .. import scp03  # which needs a package that this one does not

        check_range("key_version", key_version, 1, 0xFF)
        if i & ~0x71 or i & 0x60 == 0x40:
            raise ValueError(f"i is a sum of 0x01, 0x10 and 0x20 or 0x60, not 0x{i:02X}")
        if len(diversification_data) != 10:
            raise ValueError(f"diversification_data has 10 bytes, not {len(diversification_data)}")
        self.card = card
        self.atr: bytes = card.atr
        self.sequence_counter: int = 0
        self._scp03 = scp03
        self._keys = keys
        self._key_version = key_version
        self._i = i
        self._size = 16 if i & 0x01 else 8
        self._aid = aid
        self._diversification_data = diversification_data
        atr = ATR(card.atr)
        self._protocol = Protocol.T0 if atr.protocols == Protocol.T0 else Protocol.T1
        self._lengths = resolve_lengths(Lengths.AUTO, card.atr, self._protocol)
        self._forget()

    def _forget(self) -> None:
        self._session: _Session | None = None
        self._channels: set[int] = set()
        self._parts = b""  # of a chained command
        self._waiting = b""  # for GET RESPONSE
        self._status = _OK  # of what waits

    @property
    def level(self) -> int:
        """The security level of the session that is open; 0 if none is."""
        return self._session.level if self._session is not None else 0

    def power_on(self) -> None:
        self._forget()
        self.card.power_on()

    def power_off(self) -> None:
        self._forget()
        self.card.power_off()

    def reset(self) -> None:
        self._forget()
        self.card.reset()

    # The transport

    def process(self, command: bytes) -> bytes:
        """The answer to `command`, in the form of the card's protocol."""
        try:
            if len(command) < 4:
                raise _Refused(_WRONG_LENGTH)
            channel, secured = _meaning(command[0])
            if command[1] == 0xC0 and self._waiting:
                return self._get_response(command[4] if len(command) == 5 else 0)
            self._waiting = b""
            if not (secured or self._is_mine(command)):
                return self._hand_on(command, channel)
            apdu = self._decoded(command)
            parts, self._parts = self._parts + apdu.data, b""
            if apdu.cla & 0x10:
                self._parts = parts
                return b"\x90\x00"
            data, status = self._execute(C_APDU(apdu.cla, apdu.ins, apdu.p1, apdu.p2, parts, apdu.le), channel, secured)
            return self._answered(data, status, apdu)
        except _Refused as refusal:
            return refusal.status.to_bytes(2, "big")

    def _decoded(self, command: bytes) -> C_APDU:
        """A command in the form of the card's protocol; on T=0 (ISO/IEC 7816-3:2006, 12.2) Le is not said, if there are data."""
        try:
            apdu = C_APDU.from_bytes(command)
        except ValueError:
            raise _Refused(_WRONG_LENGTH) from None
        if self._protocol is Protocol.T0 and apdu.data:
            return C_APDU(apdu.cla, apdu.ins, apdu.p1, apdu.p2, apdu.data, 0x100)
        return apdu

    def _answered(self, data: bytes, status: int, command: C_APDU) -> bytes:
        """Data and status, or what announces them."""
        if not data or not command.le:
            return status.to_bytes(2, "big")
        if self._protocol is Protocol.T0 and command.data:
            self._waiting, self._status = data, status
            return bytes((0x61, min(len(data), 0x100) & 0xFF))
        if len(data) == command.le or (len(data) < command.le and self._protocol is not Protocol.T0):
            return data + status.to_bytes(2, "big")
        if command.le != 0x100 or self._protocol is Protocol.T0:
            return bytes((0x6C, min(len(data), 0x100) & 0xFF))
        self._waiting, self._status = data, status
        return self._get_response(0)

    def _get_response(self, le: int) -> bytes:
        """GET RESPONSE: the next of what waits, and the status after the last."""
        count = le or 0x100
        if count > len(self._waiting):
            return bytes((0x6C, len(self._waiting) & 0xFF))
        part, self._waiting = self._waiting[:count], self._waiting[count:]
        if self._waiting:
            return part + bytes((0x61, min(len(self._waiting), 0x100) & 0xFF))
        return part + self._status.to_bytes(2, "big")

    def _is_mine(self, command: bytes) -> bool:
        return (command[0] & 0x80 and command[1] == 0x50) or (command[1] == 0x70 and command[0] & 0xFC == 0x00)

    def _hand_on(self, command: bytes, channel: int) -> bytes:
        """A command outside of a session, for the card inside."""
        if self._session is not None and self._session.level and channel == self._session.channel:
            raise _Refused(_SECURITY_STATUS_NOT_SATISFIED)
        return self.card.process(bytes((_in_basic_channel(command[0]),)) + command[1:])

    # The commands

    def _execute(self, apdu: C_APDU, channel: int, secured: bool) -> tuple[bytes, int]:
        if not secured:
            return self._initialize_update(apdu, channel) if apdu.ins == 0x50 else self._manage_channel(apdu)
        session = self._session
        if session is None or session.channel != channel:
            raise _Refused(_SECURITY_STATUS_NOT_SATISFIED)
        data = self._verified(session, apdu)
        if not session.level:
            return self._external_authenticate(session, apdu, data)
        session.counter += 1
        if data and session.level & _C_DECRYPTION:
            data = self._decrypted(session, data)
        plain = C_APDU(_in_basic_channel(apdu.cla), apdu.ins, apdu.p1, apdu.p2, data, self._plain_le(session, apdu.le))
        return self._secured(session, *self._ask(plain, session))

    def _manage_channel(self, apdu: C_APDU) -> tuple[bytes, int]:
        """MANAGE CHANNEL (ISO/IEC 7816-4:2020, 11.1.2)."""
        if apdu.p1 == 0x80 and apdu.p2 in self._channels:
            self._channels.remove(apdu.p2)
            if self._session is not None and self._session.channel == apdu.p2:
                self._session = None
            return b"", _OK
        if apdu.p1 or apdu.p2 > 19:
            raise _Refused(_INCORRECT_P1_P2)
        free = [number for number in range(1, 20) if number not in self._channels and apdu.p2 in (0, number)]
        if not free:
            raise _Refused(_NO_MORE_CHANNELS)
        self._channels.add(free[0])
        return bytes((free[0],)), _OK

    def _initialize_update(self, apdu: C_APDU, channel: int) -> tuple[bytes, int]:
        """INITIALIZE UPDATE (7.1.1)."""
        self._session = None
        if apdu.p1 not in (0, self._key_version):
            raise _Refused(_KEYS_NOT_FOUND)
        if len(apdu.data) != self._size:
            raise _Refused(_WRONG_LENGTH)
        scp03, keys, size = self._scp03, self._keys, self._size
        counter = self.sequence_counter.to_bytes(3, "big")
        if self._i & 0x10:
            challenge = scp03.derive(keys._enc, scp03.CARD_CHALLENGE, size, counter + self._aid)
        else:
            challenge, counter = secrets.token_bytes(size), b""
        context, length = apdu.data + challenge, len(keys._enc)
        mac = scp03.derive(keys._mac, scp03.S_MAC, length, context)
        self._session = _Session(
            channel,
            scp03.derive(keys._enc, scp03.S_ENC, length, context),
            mac,
            scp03.derive(keys._mac, scp03.S_RMAC, length, context),
            scp03.derive(mac, scp03.HOST_CRYPTOGRAM, size, context),
        )
        cryptogram = scp03.derive(mac, scp03.CARD_CRYPTOGRAM, size, context)
        key_information = bytes((self._key_version, 0x03, self._i))
        return self._diversification_data + key_information + challenge + cryptogram + counter, _OK

    def _external_authenticate(self, session: _Session, apdu: C_APDU, cryptogram: bytes) -> tuple[bytes, int]:
        """EXTERNAL AUTHENTICATE (7.1.2); its MAC is right."""
        needed = _LEVELS.get(apdu.p1)
        if apdu.ins != 0x82 or needed is None or self._i & needed != needed or apdu.p2:
            self._session = None
            raise _Refused(_INCORRECT_P1_P2 if apdu.ins == 0x82 else _SECURITY_STATUS_NOT_SATISFIED)
        if not compare_digest(cryptogram, session.host_cryptogram):
            self._session = None
            raise _Refused(_NOT_AUTHENTICATED)
        session.level = apdu.p1
        self.sequence_counter += 1
        return b"", _OK

    # Secure messaging

    def _verified(self, session: _Session, apdu: C_APDU) -> bytes:
        """The data of a command, without its MAC (6.2.4)."""
        data, its_mac = apdu.data[: -self._size], apdu.data[-self._size :]
        size = len(apdu.data)
        lc = bytes((size,)) if size <= 0xFF and apdu.le <= 0x100 else b"\0" + size.to_bytes(2, "big")
        cla = apdu.cla & 0x9C if apdu.cla & 0xC0 != 0xC0 else 0x84
        chaining = self._scp03.cmac(session.mac, session.chaining, bytes((cla, apdu.ins, apdu.p1, apdu.p2)), lc, data)
        if not compare_digest(chaining[: self._size], its_mac):
            self._session = None
            raise _Refused(_SECURITY_STATUS_NOT_SATISFIED)
        session.chaining = chaining
        return data

    def _decrypted(self, session: _Session, data: bytes) -> bytes:
        """6.2.6."""
        if len(data) % 16:
            self._session = None
            raise _Refused(_SECURITY_STATUS_NOT_SATISFIED)
        icv = self._scp03.encrypt(session.enc, bytes(16), session.counter.to_bytes(16, "big"))
        plain, mark, zeros = self._scp03.decrypt(session.enc, icv, data).rpartition(b"\x80")
        if not mark or zeros.strip(b"\0"):
            self._session = None
            raise _Refused(_SECURITY_STATUS_NOT_SATISFIED)
        return plain

    def _plain_le(self, session: _Session, le: int) -> int:
        """How many bytes of the response's data fit into Le, with what secures them."""
        if le in (0, 0x100, 0x10000) or not session.level & _R_MAC:
            return le
        room = max(le - self._size, 0)
        return max(room - room % 16 - 1, 0) if session.level & _R_ENCRYPTION else room

    def _ask(self, plain: C_APDU, session: _Session) -> tuple[bytes, int]:
        """What the card inside has for a command."""
        try:
            whole = self._protocol is not Protocol.T0  # where 6Cxx is the transport's, and follows on each Le that is not exact
            steps = exchange(plain, self._protocol, self._lengths, ExchangeOptions(), whole=whole)
            response = run_steps(steps, self.card.process)
        except (SCardError, ValueError):  # it breaks off, or the command is too long for it
            return b"", _WRONG_LENGTH
        if response.sw1 == 0x6C and session.level & _R_MAC:
            room = response.sw2 or 0x100
            room = (room + 16 - room % 16 if session.level & _R_ENCRYPTION else room) + self._size
            return b"", 0x6C00 | min(room, 0x100) & 0xFF
        return response.data, response.sw

    def _secured(self, session: _Session, data: bytes, status: int) -> tuple[bytes, int]:
        """A response encrypted (6.2.7) and with its MAC (6.2.5); an error is a bare status."""
        if not session.level & _R_MAC:
            return data, status
        if status != _OK and status >> 8 not in (0x62, 0x63):
            return b"", status
        if data and session.level & _R_ENCRYPTION:
            block = b"\x80" + session.counter.to_bytes(15, "big")
            icv = self._scp03.encrypt(session.enc, bytes(16), block)
            data = self._scp03.encrypt(session.enc, icv, self._scp03.pad(data))
        mac = self._scp03.cmac(session.rmac, session.chaining, data, status.to_bytes(2, "big"))
        return data + mac[: self._size], status


def _meaning(cla: int) -> tuple[int, bool]:
    """The logical channel that a class names, and whether it says secure messaging of GlobalPlatform's (2.3.1, 11.1.4)."""
    if cla & 0x60 == 0x00:
        return cla & 0x03, cla & 0x0C == 0x04
    if cla & 0xC0 == 0x40 or cla & 0xD0 == 0xC0:
        return 4 + (cla & 0x0F), cla & 0xE0 == 0xE0
    return 0, False


def _in_basic_channel(cla: int) -> int:
    """A class without its channel, secure messaging and chaining; one that names none stays as it is."""
    if cla & 0x60 == 0x00:
        return cla & 0x80 | (cla & 0x10 if not cla & 0x04 else 0)
    if cla & 0xC0 == 0x40:
        return 0x00 | cla & 0x10
    return 0x80 if cla & 0xD0 == 0xC0 else cla
