"""A virtual card that answers from a cassette.

Rules:

- A cassette has commands as the caller gave them; the card receives the steps that `_exchange` made of them. Here that is reversed:
  parts of a chain and of ENVELOPE are joined, Le is taken from where the protocol leaves it, and responses are sent in the steps
  that the protocol needs: on T=0 strictly (61xx and GET RESPONSE, 6Cxx; ISO/IEC 7816-3:2006, 12.2), on T=1 in one step, except what
  is too long for a short Le (ISO/IEC 7816-4:2020, 5.3.4).
- A command counts as a part only while a recorded command begins with the parts so far. Raw exchanges are compared and answered
  verbatim.
- A command that was not recorded is an error of the test, and is raised: the reader answers 6F00, and the error is raised where the
  card is removed. GET RESPONSE without pending data is answered 6985, as real cards do, since a terminal may try it.
- A reset, cold or warm, rewinds the cassette: the recorded card was reset as well. It is rewound when the next command arrives, so
  that what was played can be examined until then.
"""

from __future__ import annotations

from .._enums import Protocol
from ..iso7816._apdu import C_APDU, as_command
from ..testing import VirtualCard
from ._cassette import StrPath, read
from ._tape import Exchange, Raw, Sent, Tape, header

_CHAIN = 0x10
"""Bit 5 of CLA: more parts follow (ISO/IEC 7816-4:2020, 5.3.3)."""
_GET_RESPONSE, _ENVELOPE = 0xC0, 0xC2
_PART = 255
_OK = b"\x90\x00"
_CONDITIONS_NOT_SATISFIED = b"\x69\x85"


class ReplayCard(VirtualCard):
    """Plays a cassette: the recorded ATR, and to each recorded command its response.

    ::

        pcsc.insert(0, ReplayCard("session.cassette"))

    Each exchange is played once, the first that matches and was not played yet; a reset rewinds. So a cassette can be played by a
    session after the other, and within one session the same command gets its answers in the order of recording. Data that were
    hidden in the recording match any.

    A command that is not recorded is answered 6F00, and taking the card out, or closing the PC/SC, raises
    `UnrecordedCommandError`.

    Args:
        path: a cassette, or a dump of apdu4j.

    Raises:
        OSError: there is no such file.
        CassetteError: it is damaged.
    """

    def __init__(self, path: StrPath) -> None:
        cassette = read(path)
        self.atr: bytes = cassette.atr
        self._is_t0 = cassette.protocol == Protocol.T0
        self._tape = Tape(cassette.exchanges, path)
        self._is_fresh = False
        self._forget()

    def _forget(self) -> None:
        self._collected: C_APDU | None = None
        """A command that arrives in parts, as far as it has arrived."""
        self._pending_command: C_APDU | None = None
        """The command whose response has not been fetched completely."""
        self._pending_answer = b""
        """The rest of that response, data and status word."""

    @property
    def all_played(self) -> bool:
        """Whether every recorded exchange was played since the reset before the last command."""
        return self._tape.all_played

    def power_on(self) -> None:
        self._is_fresh = True

    def process(self, command: bytes) -> bytes:
        """Answer a command.

        Args:
            command: as the terminal sent it.

        Returns:
            The recorded response, or the part of it that is due.

        Raises:
            UnrecordedCommandError: it is not recorded, or was played already.
        """
        if self._is_fresh:
            self._is_fresh = False
            self._tape.rewind()
            self._forget()
        apdu = as_command(command)
        return self._go_on(command, apdu) or self._begin(command, apdu)

    def _go_on(self, command: bytes, apdu: C_APDU) -> bytes:
        """The next part of the pending response; empty if the command does not ask for it."""
        asked, answer = self._pending_command, self._pending_answer
        self._pending_command, self._pending_answer = None, b""
        if asked is None or apdu.data:
            return b""
        if apdu.ins != _GET_RESPONSE and (asked.data or header(apdu) != header(asked)) and not self._fetches(command, apdu):
            return b""
        return self._piece(asked, answer, apdu.le or 256)

    def _fetches(self, command: bytes, apdu: C_APDU) -> bool:
        """Whether a command fetches the pending response with another instruction (`ExchangeOptions.response_instruction`)."""
        return not (apdu.p1 or apdu.p2 or self._tape.holds(lambda each: self._fits(each, command, apdu)))

    def _piece(self, asked: C_APDU, answer: bytes, le: int) -> bytes:
        """The first `le` bytes of a response; the rest is pending."""
        size = len(answer) - 2
        if self._is_t0 and size < le:
            self._pending_command, self._pending_answer = asked, answer
            return bytes((0x6C, size))
        if size <= le:
            return answer
        self._pending_command, self._pending_answer = asked, answer[le:]
        return answer[:le] + _more(size - le)

    def _begin(self, command: bytes, apdu: C_APDU) -> bytes:
        """The answer to a new command, or to a part of one."""
        is_full, collected = len(apdu.data) == _PART, self._collected
        self._collected = None
        if collected is not None and header(_unchained(apdu)) == header(collected):
            apdu = _with_data(apdu, collected.data + apdu.data)
        found = self._tape.take(lambda each: self._fits(each, command, apdu))
        if found is not None:
            return self._answer(found, apdu)
        if apdu.cla & _CHAIN and self._tape.holds(lambda each: _begins_so(each, _unchained(apdu))):
            self._collected = _unchained(apdu)
            return _OK
        if self._is_t0 and apdu.ins == _ENVELOPE:
            return self._unwrap(apdu, is_full)
        if apdu.ins == _GET_RESPONSE and not apdu.data:
            return _CONDITIONS_NOT_SATISFIED
        raise self._tape.unrecorded(apdu)

    def _unwrap(self, envelope: C_APDU, is_full: bool) -> bytes:
        """A command in ENVELOPEs: each but the last is full (`_exchange`)."""
        inner = as_command(envelope.data)
        if is_full and self._tape.holds(lambda each: _is_wrapped_so(each, envelope.data)):
            self._collected = envelope
            return _OK
        found = self._tape.take(lambda each: isinstance(each, Sent) and self._fits(each, b"", inner))
        if found is None:
            raise self._tape.unrecorded(inner)
        return self._answer(found, inner)

    def _fits(self, each: Exchange, command: bytes, apdu: C_APDU) -> bool:
        """Whether a recorded exchange matches: verbatim if raw, else as far as the protocol transmits the command."""
        if isinstance(each, Raw):
            return each.is_of(command)
        recorded = each.command
        if not each.is_of(_with_ne(apdu, recorded.le)):
            return False
        if not self._is_t0:
            return apdu.le in (recorded.le, min(recorded.le, 256))
        return bool(apdu.data) or min(recorded.le, 256) % 256 == apdu.le % 256  # P3 = 00: none, or 256 and more

    def _answer(self, found: Exchange, apdu: C_APDU) -> bytes:
        answer = bytes(found.response)
        size = len(answer) - 2
        if isinstance(found, Raw) or not size:
            return answer
        if self._is_t0 and apdu.data:
            self._pending_command, self._pending_answer = apdu, answer
            return _more(size)
        le = apdu.le or 256
        if (self._is_t0 and size < le) or size > le == 256:
            return self._piece(apdu, answer, le)
        return answer


def _begins_so(each: Exchange, apdu: C_APDU) -> bool:
    """Whether a recorded command begins as the parts of a chain that have come."""
    if not isinstance(each, Sent) or header(each.command) != header(apdu):
        return False
    return each.hides_data or (len(each.command.data) > len(apdu.data) and each.command.data.startswith(apdu.data))


def _is_wrapped_so(each: Exchange, data: bytes) -> bool:
    """Whether a recorded command begins as the contents of the ENVELOPEs that have come."""
    if not isinstance(each, Sent):
        return False
    return bytes(header(each.command)) == data[:4] if each.hides_data else bytes(each.command).startswith(data)


def _unchained(apdu: C_APDU) -> C_APDU:
    return C_APDU(apdu.cla & ~_CHAIN, apdu.ins, apdu.p1, apdu.p2, apdu.data, apdu.le)


def _with_data(apdu: C_APDU, data: bytes) -> C_APDU:
    return C_APDU(apdu.cla, apdu.ins, apdu.p1, apdu.p2, data, apdu.le)


def _with_ne(apdu: C_APDU, ne: int) -> C_APDU:
    return C_APDU(apdu.cla, apdu.ins, apdu.p1, apdu.p2, apdu.data, ne)


def _more(size: int) -> bytes:
    return bytes((0x61, min(size, 256) & 0xFF))
