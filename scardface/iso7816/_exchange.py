"""One command of the caller's, whatever steps it takes: the whole exchange, without any I/O.

`exchange` gives a generator: it yields the bytes to transmit and is sent the bytes received, and it returns the caller's response.
An `SCardError` of the way to the card may be thrown into it; it comes out again, told better where this room knows more.

How a command goes out, and in how many parts, is `_tpdu`'s to say. What follows an answer:

- In a chain every part but the last must be answered 9000; another answer ends it and is the caller's. 6Dxx and 6Exx to an ENVELOPE
  that AUTO chose are about the ENVELOPE, not about the command in it: an error that says so.
- 6Cxx: the command goes out again, the whole of it, with Le = xx (00 is 256), for the card has aborted it; once. On T=0 a command
  with data has no Le that could be corrected: an error.
- 61xx (ISO/IEC 7816-4:2020, 5.3.4): xx more bytes wait, 00 is 256 or more. GET RESPONSE (C0) fetches them, and so on until another
  status comes; that one is the caller's, with all data collected, an error's too. 6Cxx to GET RESPONSE: again, with Le = xx. Some
  applications have another instruction for it (`ExchangeOptions.response_instruction`), some callers fetch for themselves
  (`ExchangeOptions.follow_61`).
- Without Ne, with Ne = 256 in a short Le and with Ne = 65,536 the caller wants all there is. Another Ne ends the fetching with 9000
  when as many bytes are there; GET RESPONSE asks for no more than are missing; and where 6Cxx made the card send more, the first
  Ne bytes are kept. An answer that took one step is left as it came.
- Fetching after other answers that brought no data is asked for by `ExchangeOptions.fetch_after`.
- 67xx on T=1 to extended length that nobody declared (AUTO): the card most likely does not know the form. An error that says so.
  With EXTENDED, declared by the ATR or decided by the caller, it is a status as any other; so it is once the card has answered
  extended length with anything else (`Learned`).

Most commands go out in one step and are answered in full. For these there is a shortcut past the generator: `one_step` says how
they go out, `whole_response` whether the answer was all. Where either has no answer, `exchange` takes the same first step, or is
told what came of it: the rules stand there alone.

Nothing here trusts the card: the number of steps and of bytes is bounded; an answer under two bytes, a 6Cxx that comes again or
asks for what was sent, a 61xx after GET RESPONSE that brought nothing are each a `CardCommunicationError` naming the step. So is
one that was thrown in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from .. import errors
from .._enums import Lengths, Protocol
from ..errors import CardCommunicationError, SCardError, as_error
from ._apdu import C_APDU, R_APDU, is_secret
from ._tpdu import has_extended_fields, resolve_lengths, response_class, t0, tpdus, with_le

__all__ = ["ExchangeOptions", "Learned", "exchange", "resolve_lengths"]

Steps = Generator[bytes, bytes, R_APDU]

_MORE_FOLLOWS = frozenset({0x61, 0x67, 0x6C})
"""First status bytes that may not be the last word (67: of extended length that nobody declared)."""
_LONGEST_WHOLE = 0x10000
"""Bytes of an answer; longer ones are for `exchange` to bound."""
_ADVICE = "the card or the reader may not take extended length: set lengths=Lengths.CHAINING, or Lengths.SHORT"
_ENVELOPE_ADVICE = (
    "it does not know the ENVELOPE that Lengths.AUTO chose for so long a command, which has not been carried out: "
    "set lengths=Lengths.CHAINING, or send it in parts"
)
_REFUSALS = (errors.INVALID_PARAMETER, 0x80100008, 0x8010001F, 0x80100022)
"""What PC/SC answers, besides failed exchanges, where a command is too long: INSUFFICIENT_BUFFER, UNSUPPORTED_FEATURE."""


@dataclass(frozen=True)
class ExchangeOptions:
    """What an exchange may do beyond the rules, and how far it may go.

    Attributes:
        max_steps: how many times one command may speak to the card, at least 1. 4,096 carry 65,536 bytes in steps of 16.
        max_bytes: how many bytes of data one answer may bring together; None: 65,536 and Ne.
        response_class: the class of GET RESPONSE and ENVELOPE, 0 to 255; None: by the command's.
        response_instruction: what fetches the rest after 61xx, by the standard GET RESPONSE; 0xA5 (SEND REMAINING)
            for Yubico's OATH.
        follow_61: False: 61xx is a status as any other, and fetching is the caller's.
        fetch_after: first status bytes after which GET RESPONSE is tried, besides 61, when the answer brought no data. 0x9F: length
            in SW2, as 61 (GSM 11.11, 9.4.1). 0x62, 0x63 (EMV 4.3 Book 1, 9.3.1.1.4) and 0x90 (ISO/IEC 7816-3:2006, 12.2, case
            4S.2): after a command with data and Ne; the first status is the caller's in the end, and nothing to fetch is no error.

    Raises:
        ValueError: a field is out of its range; the text names it.
    """

    max_steps: int = 4096
    max_bytes: int | None = None
    response_class: int | None = None
    fetch_after: frozenset[int] = frozenset()
    response_instruction: int = 0xC0
    follow_61: bool = True

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"max_steps is at least 1, not {self.max_steps}")
        if self.max_bytes is not None and self.max_bytes < 0:
            raise ValueError(f"max_bytes is at least 0, not {self.max_bytes}")
        if self.response_class is not None and not 0 <= self.response_class <= 0xFF:
            raise ValueError(f"response_class is 0 to 255, not {self.response_class}")
        if not self.fetch_after <= {0x62, 0x63, 0x90, 0x9F}:
            raise ValueError("fetch_after takes 0x62, 0x63, 0x90 and 0x9F")
        # On T=0 these two halves would be taken for a status byte (ISO/IEC 7816-3:2006, 10.3.2).
        if not 0 <= self.response_instruction <= 0xFF or self.response_instruction >> 4 in (0x6, 0x9):
            raise ValueError(f"response_instruction is 0 to 255, but for 6x and 9x, not {self.response_instruction}")
        if not self.follow_61 and not self.fetch_after and self.response_instruction != 0xC0:
            raise ValueError("response_instruction is never sent with follow_61=False")


_DEFAULTS = ExchangeOptions()


@dataclass
class Learned:
    """What exchanges have learned of a card. All exchanges with one card share it.

    Attributes:
        takes_extended: whether the card has answered extended length with anything but 67xx.
    """

    takes_extended: bool = False


def exchange(
    command: C_APDU,
    protocol: Protocol,
    lengths: Lengths = Lengths.AUTO,
    options: ExchangeOptions = _DEFAULTS,
    learned: Learned | None = None,
) -> Steps:
    """The steps of one command.

    A plain function: a command that cannot go this way is refused here, before the generator exists. Who calls it for each command
    of a batch has checked the batch before the first byte goes out.

    Args:
        command: the caller's command.
        protocol: the protocol in use; everything but T0 is taken as T1.
        lengths: how long data goes, best from `resolve_lengths`.
        options: bounds, and what is off by default.
        learned: of this card, by the exchanges before; read and written while the generator runs.

    Returns:
        A generator that yields bytes to transmit, is sent the bytes received, and returns the response.

    Raises:
        ValueError: EXTENDED on T=0, ENVELOPE on T=1, more data than SHORT takes, CHAINING with bit 5 of CLA set already, AUTO with
            long data in a proprietary class on T=0.
        CardCommunicationError: from the generator: the card breaks the rules or goes beyond the bounds.
    """
    if protocol == Protocol.T0 and lengths is Lengths.EXTENDED:
        raise ValueError("T=0 has no extended length: set lengths=Lengths.ENVELOPE, CHAINING or AUTO")
    if protocol != Protocol.T0 and lengths is Lengths.ENVELOPE:
        raise ValueError("ENVELOPE carries long commands on T=0 only: set lengths=Lengths.EXTENDED, CHAINING or AUTO")
    first = tpdus(command, protocol, lengths, options.response_class)
    return _steps(command, first, protocol, lengths, options, learned or Learned())


def one_step(protocol: Protocol, lengths: Lengths, options: ExchangeOptions) -> Callable[[C_APDU], bytes | None]:
    """How commands go out that one step carries; for others it says None, and `exchange` is to be asked."""
    if options.fetch_after or options.max_bytes is not None:
        return _never
    if protocol == Protocol.T0:
        return _never if lengths is Lengths.EXTENDED else _short_t0
    if lengths is Lengths.ENVELOPE:
        return _never
    return bytes if lengths is Lengths.EXTENDED else _short_t1  # AUTO has to learn from what is answered to extended length


def _never(command: C_APDU) -> None:
    return None


def _short_t0(command: C_APDU) -> bytes | None:
    return t0(command) if len(command.data) <= 0xFF and command.le <= 0x100 else None


def _short_t1(command: C_APDU) -> bytes | None:
    return bytes(command) if len(command.data) <= 0xFF and command.le <= 0x100 else None


def is_plain_success(answer: bytes) -> bool:
    """Whether an answer says 9000 and is no longer than one whose response is made without a second look."""
    return answer[-2:] == b"\x90\x00" and len(answer) <= _LONGEST_WHOLE


def whole_response(command: C_APDU, answer: bytes) -> R_APDU | None:
    """The response, if the answer to a command's one step is all of it; None: `exchange` knows what follows.

    Args:
        answer: at least two bytes.
    """
    if answer[-2] in _MORE_FOLLOWS or len(answer) > _LONGEST_WHOLE:
        return None
    return R_APDU.from_bytes(answer, secret=is_secret(command))


def carry(steps: Steps, transmit: Callable[[bytes], bytes], first: bytes | SCardError | None = None) -> R_APDU:
    """Run an exchange to its end.

    Args:
        transmit: one step: bytes there, bytes back.
        first: what came of the first step, where that has been taken already.
    """
    try:
        data = next(steps)
        if isinstance(first, SCardError):
            data = steps.throw(first)
        elif first is not None:
            data = steps.send(first)
        while True:
            try:
                answer = transmit(data)
            except SCardError as error:
                data = steps.throw(error)  # it knows which step that was
            else:
                data = steps.send(answer)
    except StopIteration as end:
        response: R_APDU = end.value
        return response


class _Talk:
    """The way to the card for one exchange: counts what was used up, and finds the words for what goes wrong."""

    __slots__ = ("bytes_left", "learned", "name", "steps", "steps_left")

    def __init__(self, command: C_APDU, options: ExchangeOptions, learned: Learned) -> None:
        self.learned = learned
        self.steps = 0
        self.steps_left = options.max_steps
        self.bytes_left = 0x10000 + command.le if options.max_bytes is None else options.max_bytes
        self.name = command.cla << 24 | command.ins << 16 | command.p1 << 8 | command.p2

    def transmit(self, tpdu: bytes, what: str) -> Generator[bytes, bytes, bytes]:
        """One step; `what` is its name in an error's text."""
        if not self.steps_left:
            raise self.error(what, "the bound on steps is reached and the card has not ended (ExchangeOptions.max_steps)")
        self.steps += 1
        self.steps_left -= 1
        try:
            answer = yield tpdu
        except SCardError as error:
            if has_extended_fields(tpdu) and (isinstance(error, CardCommunicationError) or error.code in _REFUSALS):
                words = f"{self.where(what)}, {len(tpdu)} bytes: failed; {_ADVICE}"
            elif isinstance(error, CardCommunicationError):
                words = f"{self.where(what)}: failed"
            else:
                raise
            raise as_error(CardCommunicationError, error, words) from error
        if len(answer) < 2:
            raise self.error(what, f"the answer has {len(answer)} bytes, a status word alone has 2")
        if answer[-2] != 0x67 and has_extended_fields(tpdu):
            self.learned.takes_extended = True
        self.bytes_left -= len(answer) - 2
        if self.bytes_left < 0:
            raise self.error(what, "the answer is longer than the bound on bytes (ExchangeOptions.max_bytes)")
        return answer

    def where(self, what: str) -> str:
        return f"command {self.name:08X}, step {self.steps} ({what})"

    def error(self, what: str, words: str) -> CardCommunicationError:
        return CardCommunicationError(f"{self.where(what)}: {words}")


def _steps(
    command: C_APDU, parts: list[bytes], protocol: Protocol, lengths: Lengths, options: ExchangeOptions, learned: Learned
) -> Steps:
    talk = _Talk(command, options, learned)
    wanted = _wanted(command, lengths)
    answer, is_last = yield from _send(talk, parts)
    if is_last and answer[-2] == 0x6C:
        again = tpdus(with_le(command, answer[-1] or 0x100), protocol, lengths, options.response_class)
        if again == parts:
            raise talk.error("command", f"{answer[-2:].hex().upper()} does not ask for another Le than was sent")
        answer, is_last = yield from _send(talk, again)
        if is_last and answer[-2] == 0x6C:
            raise talk.error("command with Le corrected", f"{answer[-2:].hex().upper()} once more")
        answer = answer[:-2][:wanted] + answer[-2:]
    if lengths is Lengths.AUTO and answer[-2] == 0x67 and has_extended_fields(parts[0]) and not learned.takes_extended:
        raise talk.error("command", f"the card answered {answer[-2:].hex().upper()}, wrong length; {_ADVICE}")
    if lengths is Lengths.AUTO and not is_last and answer[-2] in (0x6D, 0x6E):  # more parts than one: ENVELOPEs, on T=0
        raise talk.error("ENVELOPE", f"the card answered {answer[-2:].hex().upper()}; {_ENVELOPE_ADVICE}")
    if is_last:
        answer = yield from _fetch(talk, answer, wanted, command, options)
    return R_APDU.from_bytes(answer, secret=is_secret(command))


def _wanted(command: C_APDU, lengths: Lengths) -> int | None:
    """How many bytes the caller wants; None: all there are."""
    ne = command.le
    is_short = len(command.data) <= 0xFF or lengths is Lengths.CHAINING
    return None if ne in (0, 0x10000) or (ne == 0x100 and is_short) else ne


def _send(talk: _Talk, parts: list[bytes]) -> Generator[bytes, bytes, tuple[bytes, bool]]:
    """All parts of a command: the answer that counts, and whether it answers the last part."""
    for number, tpdu in enumerate(parts[:-1], 1):
        answer = yield from talk.transmit(tpdu, f"part {number} of {len(parts)}")
        if answer[-2:] != b"\x90\0":
            return answer, False
    answer = yield from talk.transmit(parts[-1], "last part" if len(parts) > 1 else "command")
    return answer, True


def _fetch(
    talk: _Talk, answer: bytes, wanted: int | None, command: C_APDU, options: ExchangeOptions
) -> Generator[bytes, bytes, bytes]:
    """GET RESPONSE for as long as the card says that more waits: all data, and the last status."""
    sw = answer[-2:]
    announcing = [sw1 for sw1, follows in ((0x61, options.follow_61), (0x9F, 0x9F in options.fetch_after)) if follows]
    kept = b""
    if sw[0] not in announcing:
        asked_in_vain = len(answer) == 2 and command.data and command.le
        if not (asked_in_vain and sw[0] in options.fetch_after):
            return answer
        kept, sw = sw, b"\x61\0"
    cla = response_class(command.cla) if options.response_class is None else options.response_class
    header = cla, options.response_instruction, 0, 0
    collected = bytearray(answer[:-2])
    more = True
    while more:
        le = sw[1] or 0x100
        if wanted is not None:
            if len(collected) >= wanted:
                sw = b"\x90\0"
                break
            le = min(le, wanted - len(collected))
        answer = yield from talk.transmit(bytes((*header, le & 0xFF)), "GET RESPONSE")
        if answer[-2] == 0x6C:
            right = answer[-1] or 0x100
            if right == le:
                raise talk.error("GET RESPONSE", f"{answer[-2:].hex().upper()} does not ask for another Le than was sent")
            answer = yield from talk.transmit(bytes((*header, right & 0xFF)), "GET RESPONSE with Le corrected")
            if answer[-2] == 0x6C:
                raise talk.error("GET RESPONSE with Le corrected", f"{answer[-2:].hex().upper()} once more")
        sw = answer[-2:]
        more = sw[0] in announcing
        collected += answer[:-2]
        if more and len(answer) == 2:
            raise talk.error("GET RESPONSE", f"{sw.hex().upper()} and no data")
    if kept and (sw == b"\x90\0" or not collected):
        sw = kept
    return bytes(collected[:wanted]) + sw
