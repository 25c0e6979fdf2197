"""Virtual cards that take and say much, and cards that never come to an end.

Rules:

- A `LongCard` is strict, and written from ISO/IEC 7816-3:2006, 12 and 7816-4:2020, 5: it takes long commands in one way and refuses
  every other with the status that the standard has for it. It knows nothing of the exchange; that it decodes commands with
  `C_APDU`, another implementation vouches for (tests/iso7816/test_apdu.py).
- A card asserts nothing: the test compares what it received and did.
"""

from __future__ import annotations

from scardface import C_APDU, Lengths, Protocol
from scardface.testing import VirtualCard

READ, ASK, STORE = 0xB0, 0xCB, 0xDB
"""READ BINARY (case 2) is answered with the card's content; GET DATA (CB, case 4) too; PUT DATA (DB, case 3) with 9000."""

_GET_RESPONSE, _ENVELOPE, _CHAINED = 0xC0, 0xC2, 0x10
_CARD_SENDS = (READ, _GET_RESPONSE)
"""Instructions whose P3 is Le on T=0."""
_DECLARED = {Lengths.CHAINING: 0x80, Lengths.EXTENDED: 0x40}


def pattern(size: int) -> bytes:
    """So many bytes, no two parts of 255 or 256 of which are alike."""
    return bytes((i // 251 + i) & 0xFF for i in range(size))


def answer_to_reset(protocol: Protocol, capabilities: int | None = None) -> bytes:
    """An ATR that offers one protocol (ISO/IEC 7816-3:2006, 8.2) and declares nothing more than, if it is given, the third byte of
    the card capabilities (7816-4:2020, 12.1.1)."""
    historical = b"" if capabilities is None else bytes((0x80, 0x73, 0x00, 0x00, capabilities))
    if protocol is Protocol.T0:
        return bytes((0x3B, len(historical))) + historical
    rest = bytes((0x80 | len(historical), 0x01)) + historical
    check = 0
    for octet in rest:
        check ^= octet
    return b"\x3b" + rest + bytes((check,))


class _Refused(Exception):
    """Ends a command with this status word."""


class LongCard(VirtualCard):
    """A card of one protocol that takes long commands in one way, and has `content` to say.

    Attributes:
        done: what it carried out: INS and data.
        commands: the commands received, verbatim.
        said: how many bytes of `content` it has said.
    """

    def __init__(
        self,
        protocol: Protocol,
        takes: Lengths,
        *,
        declares: bool = False,
        content: bytes = b"",
        most: int = 256,
        more: int = 0x61,
        fetch_class: int = 0x00,
    ) -> None:
        """Make a card.

        Args:
            protocol: Protocol.T0 or T1; the ATR offers that alone.
            takes: EXTENDED, CHAINING, ENVELOPE or SHORT.
            declares: whether the ATR says what it takes. (No ATR can tell of ENVELOPE.)
            content: what it answers.
            most: the longest part of it in one answer.
            more: SW1 that announces more of it.
            fetch_class: the class in which GET RESPONSE must come.
        """
        self.atr = answer_to_reset(protocol, _DECLARED.get(takes, 0) if declares else None)
        self.done: list[tuple[int, bytes]] = []
        self.commands: list[bytes] = []
        self.said = 0
        self._protocol = protocol
        self._takes = takes
        self._content = content
        self._most = most
        self._more = more
        self._fetch_class = fetch_class
        self.power_on()

    def power_on(self) -> None:
        self._rest = b""
        self._parts: list[C_APDU] = []
        self._envelopes = b""

    def forget(self) -> None:
        """Forget what was received, done and said, which the loss of power does not change."""
        self.commands, self.done, self.said = [], [], 0

    def process(self, command: bytes) -> bytes:
        self.commands.append(command)
        try:
            return self._answer(self._decoded(command))
        except _Refused as refusal:
            return bytes.fromhex(str(refusal))

    def _decoded(self, command: bytes) -> C_APDU:
        if self._protocol is Protocol.T0:  # a header with P3, then as many bytes of data, or none where P3 is Le
            if len(command) < 5:
                raise _Refused("6700")
            cla, ins, p1, p2, p3 = command[:5]
            if len(command) != 5 + (0 if ins in _CARD_SENDS else p3):
                raise _Refused("6700")
            return C_APDU(cla, ins, p1, p2, le=p3 or 256) if ins in _CARD_SENDS else C_APDU(cla, ins, p1, p2, command[5:])
        if len(command) > 5 and command[4] == 0 and self._takes is not Lengths.EXTENDED:
            raise _Refused("6700")
        try:
            return C_APDU.from_bytes(command)
        except ValueError:
            raise _Refused("6700") from None

    def _answer(self, command: C_APDU) -> bytes:
        if command.ins == _GET_RESPONSE:
            if command.cla != self._fetch_class:
                raise _Refused("6E00")
            if not self._rest:
                raise _Refused("6985")
            return self._say(command.le)
        self._rest = b""
        if command.ins == _ENVELOPE and self._takes is Lengths.ENVELOPE:
            self._envelopes += command.data
            if len(command.data) == 255:
                return b"\x90\x00"
            whole, self._envelopes = C_APDU.from_bytes(self._envelopes), b""
            return self._carry_out(whole)
        if command.cla & _CHAINED and self._takes is not Lengths.CHAINING:
            raise _Refused("6884")
        heads = {(part.cla & ~_CHAINED, part.ins, part.p1, part.p2) for part in (*self._parts, command)}
        if len(heads) > 1:
            self._parts = []
            raise _Refused("6883")
        self._parts.append(command)
        if command.cla & _CHAINED:
            return b"\x90\x00"
        data, self._parts = b"".join(part.data for part in self._parts), []
        return self._carry_out(C_APDU(command.cla, command.ins, command.p1, command.p2, data, command.le))

    def _carry_out(self, command: C_APDU) -> bytes:
        if command.ins not in (READ, ASK, STORE):
            raise _Refused("6D00")
        if command.ins == READ:
            self._rest = self._content
            return self._say(command.le)
        self.done.append((command.ins, command.data))
        if command.ins == STORE:
            return b"\x90\x00"
        self._rest = self._content
        return self._announced() if self._protocol is Protocol.T0 else self._say(command.le)

    def _say(self, ne: int) -> bytes:
        offered = min(len(self._rest), self._most)
        if ne > offered and self._protocol is Protocol.T0:  # it can send as much as was asked for, and nothing else
            raise _Refused(f"6C{offered & 0xFF:02X}")
        part = self._rest[: min(ne, offered)]
        self._rest = self._rest[len(part) :]
        self.said += len(part)
        return part + self._announced()

    def _announced(self) -> bytes:
        if not self._rest:
            return b"\x90\x00"
        return bytes((self._more, min(len(self._rest), self._most, 256) & 0xFF))


class EndlessCard(VirtualCard):
    """Answers every command alike.

    Attributes:
        always: the answer; may be changed at any time.
    """

    def __init__(self, protocol: Protocol) -> None:
        self.atr = answer_to_reset(protocol)
        self.always = b"\x90\x00"

    def process(self, command: bytes) -> bytes:
        return self.always
