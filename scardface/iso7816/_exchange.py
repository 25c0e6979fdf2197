"""One command with all its steps, without I/O.

`exchange` makes a generator: it yields the bytes to transmit, is sent the bytes received, and returns the response to the command.
An `SCardError` may be thrown into it; it comes out again, with a better text where the exchange knows more.

How a command is encoded, and into how many parts, is decided in `_tpdu`. What follows an answer:

- Every part of a chain but the last must be answered 9000; any other answer ends the chain and is the response. 6Dxx and 6Exx to an
  ENVELOPE that AUTO chose concern the ENVELOPE, not the command in it: an error says so.
- 6Cxx: the card has aborted the command, so all of it is sent again with Le = xx (00 is 256); once. On T=0 a command with data has
  no Le that could be corrected: an error.
- 61xx (ISO/IEC 7816-4:2020, 5.3.4): xx more bytes are available, 00 is 256 or more. GET RESPONSE (C0) fetches them, until another
  status comes; that one is the status of the response, with all the data collected, even if it is an error. 6Cxx to GET RESPONSE:
  again, with Le = xx. Some applications have another instruction for it (`ExchangeOptions.response_instruction`), some callers
  fetch for themselves (`ExchangeOptions.follow_61`).
- Without Ne, with Ne = 256 in a short Le and with Ne = 65,536 all available data is fetched. With any other Ne fetching ends with
  9000 once that many bytes are there; GET RESPONSE asks for no more than are missing; and if 6Cxx made the card send more, the
  first Ne bytes are kept. An answer that took one step is left as it came.
- Fetching after other answers that brought no data has to be asked for (`ExchangeOptions.fetch_after`).
- 67xx on T=1 to extended length that the card does not declare (AUTO): most likely the card does not support it; an error says so.
  With EXTENDED (declared in the ATR, or chosen by the caller) 67xx is a status like any other, and so it is once the card has
  answered extended length with anything else (`CardTraits`).

Most commands take one step and are answered in full. For these there is a shortcut past the generator: `single_step_encoder`
encodes them, `complete_response` decides whether the answer was all. Where either returns None, the generator does the same first
step, or is given its result: the rules are in the generator alone.

The card is not trusted: the numbers of steps and of bytes are bounded. An answer of less than two bytes, a second 6Cxx or one that
asks for what was sent, and a 61xx after a GET RESPONSE that brought nothing are each a `CardCommunicationError` that names the
step, and so is a `CardCommunicationError` that was thrown in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from .. import errors
from .._enums import Lengths, Protocol
from ..errors import CardCommunicationError, SCardError, converted
from ._apdu import C_APDU, R_APDU
from ._secrets import may_carry_secret
from ._tpdu import encode_t0, has_extended_fields, resolve_lengths, response_class, tpdus, with_ne

__all__ = ["CardTraits", "ExchangeOptions", "exchange", "resolve_lengths"]

Steps = Generator[bytes, bytes, R_APDU]

_MORE_FOLLOWS = frozenset({0x61, 0x67, 0x6C})
"""First status bytes after which the exchange may not be over (67: of extended length that the card does not declare)."""
_MAX_SHORTCUT_ANSWER = 0x10000
"""Bytes of an answer that the shortcut takes; longer ones are checked against `max_bytes` by the generator."""
_ADVICE = "the card or the reader may not take extended length: set lengths=Lengths.CHAINING, or Lengths.SHORT"
_ENVELOPE_ADVICE = (
    "it does not know the ENVELOPE that Lengths.AUTO chose for so long a command, which has not been carried out: "
    "set lengths=Lengths.CHAINING, or send it in parts"
)
_REFUSALS = (errors.INVALID_PARAMETER, 0x80100008, *errors.UNSUPPORTED_FEATURE_CODES)
"""What PC/SC answers, besides failed exchanges, where a command is too long: INSUFFICIENT_BUFFER, UNSUPPORTED_FEATURE."""


@dataclass(frozen=True)
class ExchangeOptions:
    """What an exchange may do that is off by default, and its bounds.

    Attributes:
        max_steps: how many steps one command may take, at least 1. 4,096 carry 65,536 bytes in steps of 16.
        max_bytes: how many bytes of data the answers to one command may have in total; None: 65,536 more than Ne.
        response_class: the class of GET RESPONSE and ENVELOPE, 0 to 255; None: by the command's.
        response_instruction: the instruction that fetches the rest after 61xx; in the standard GET RESPONSE (0xC0), 0xA5 (SEND
            REMAINING) for Yubico's OATH.
        follow_61: False: 61xx is a status like any other, and the caller fetches the rest.
        fetch_after: first status bytes after which GET RESPONSE is tried, besides 61, when the answer brought no data. 0x9F:
            length in SW2, as 61 (GSM 11.11, 9.4.1). 0x62, 0x63 (EMV 4.3 Book 1, 9.3.1.1.4) and 0x90 (ISO/IEC 7816-3:2006, 12.2,
            case 4S.2): after a command with data and Ne; the response has the first status then, and it is no error if there is
            nothing to fetch.

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
class CardTraits:
    """What exchanges have found out about a card. All exchanges with one card share it.

    Attributes:
        takes_extended: whether the card has answered extended length with anything but 67xx.
    """

    takes_extended: bool = False


def exchange(
    command: C_APDU,
    protocol: Protocol,
    lengths: Lengths = Lengths.AUTO,
    options: ExchangeOptions = _DEFAULTS,
    traits: CardTraits | None = None,
    whole: bool = False,
) -> Steps:
    """The steps of one command.

    A plain function, not a generator: a command that cannot be sent is refused when this is called. A caller that calls it for each
    command of a batch has checked the whole batch before the first byte is sent.

    Args:
        command: the caller's command.
        protocol: the protocol in use; everything but T0 is taken as T1.
        lengths: how long data is sent, best from `resolve_lengths`.
        options: bounds, and what is off by default.
        traits: of this card, from earlier exchanges; read and written while the generator runs.
        whole: fetch all there is, whatever Ne says, and leave 6Cxx to the caller; for layers that wrap a command anew.

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
    return _steps(command, first, protocol, lengths, options, traits or CardTraits(), whole)


def single_step_encoder(protocol: Protocol, lengths: Lengths, options: ExchangeOptions) -> Callable[[C_APDU], bytes | None]:
    """A function that encodes a command for which one step is enough; it returns None for others, which take `exchange`."""
    if options.fetch_after or options.max_bytes is not None:
        return _never
    if protocol == Protocol.T0:
        return _never if lengths is Lengths.EXTENDED else _short_t0
    if lengths is Lengths.ENVELOPE:
        return _never
    return bytes if lengths is Lengths.EXTENDED else _short_t1  # AUTO: the generator has to see what is answered to extended length


def _never(command: C_APDU) -> None:
    return None


def _short_t0(command: C_APDU) -> bytes | None:
    return encode_t0(command) if len(command.data) <= 0xFF and command.le <= 0x100 else None


def _short_t1(command: C_APDU) -> bytes | None:
    return bytes(command) if len(command.data) <= 0xFF and command.le <= 0x100 else None


def complete_response(command: C_APDU, answer: bytes) -> R_APDU | None:
    """The response, if the answer to a command's only step is complete; None: the generator of `exchange` has to go on.

    Args:
        answer: at least two bytes.
    """
    if answer[-2] in _MORE_FOLLOWS or len(answer) > _MAX_SHORTCUT_ANSWER:
        return None
    return R_APDU.from_bytes(answer, secret=may_carry_secret(command))


def run_steps(steps: Steps, transmit: Callable[[bytes], bytes], first: bytes | SCardError | None = None) -> R_APDU:
    """Carry out an exchange; its response.

    Args:
        transmit: sends one step to the card and returns its answer.
        first: the answer to the first step, or its error, if that step has been sent already.
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
                data = steps.throw(error)  # the generator knows which step it was
            else:
                data = steps.send(answer)
    except StopIteration as end:
        response: R_APDU = end.value
        return response


class _StepSender:
    """Sends the steps of one command: counts them against the bounds, and makes their errors."""

    __slots__ = ("bytes_left", "name", "steps", "steps_left", "traits")

    def __init__(self, command: C_APDU, options: ExchangeOptions, traits: CardTraits) -> None:
        self.traits = traits
        self.steps = 0
        self.steps_left = options.max_steps
        self.bytes_left = 0x10000 + command.le if options.max_bytes is None else options.max_bytes
        self.name = command.cla << 24 | command.ins << 16 | command.p1 << 8 | command.p2

    def transmit(self, tpdu: bytes, what: str) -> Generator[bytes, bytes, bytes]:
        """Send one step; `what` is its name in the text of an error."""
        if not self.steps_left:
            raise self.error(what, "the bound on steps is reached and the answer is not complete (ExchangeOptions.max_steps)")
        self.steps += 1
        self.steps_left -= 1
        try:
            answer = yield tpdu
        except SCardError as error:
            if has_extended_fields(tpdu) and (isinstance(error, CardCommunicationError) or error.code in _REFUSALS):
                message = f"{self.where(what)}, {len(tpdu)} bytes: failed; {_ADVICE}"
            elif isinstance(error, CardCommunicationError):
                message = f"{self.where(what)}: failed"
            else:
                raise
            raise converted(CardCommunicationError, error, message) from error
        if len(answer) < 2:
            raise self.error(what, f"the answer has {len(answer)} bytes, a status word alone has 2")
        if answer[-2] != 0x67 and has_extended_fields(tpdu):
            self.traits.takes_extended = True
        self.bytes_left -= len(answer) - 2
        if self.bytes_left < 0:
            raise self.error(what, "the answer is longer than the bound on bytes (ExchangeOptions.max_bytes)")
        return answer

    def where(self, what: str) -> str:
        return f"command {self.name:08X}, step {self.steps} ({what})"

    def error(self, what: str, message: str) -> CardCommunicationError:
        return CardCommunicationError(f"{self.where(what)}: {message}")


def _steps(
    command: C_APDU,
    parts: list[bytes],
    protocol: Protocol,
    lengths: Lengths,
    options: ExchangeOptions,
    traits: CardTraits,
    whole: bool,
) -> Steps:
    sender = _StepSender(command, options, traits)
    expected = None if whole else _expected_size(command, lengths)
    answer, is_last = yield from _send(sender, parts)
    if is_last and answer[-2] == 0x6C and not whole:
        again = tpdus(with_ne(command, answer[-1] or 0x100), protocol, lengths, options.response_class)
        if again == parts:
            raise sender.error("command", f"{answer[-2:].hex().upper()} does not ask for another Le than was sent")
        answer, is_last = yield from _send(sender, again)
        if is_last and answer[-2] == 0x6C:
            raise sender.error("command with Le corrected", f"{answer[-2:].hex().upper()} once more")
        answer = answer[:-2][:expected] + answer[-2:]
    if lengths is Lengths.AUTO and answer[-2] == 0x67 and has_extended_fields(parts[0]) and not traits.takes_extended:
        raise sender.error("command", f"the card answered {answer[-2:].hex().upper()}, wrong length; {_ADVICE}")
    if lengths is Lengths.AUTO and not is_last and answer[-2] in (0x6D, 0x6E):  # more parts than one: ENVELOPEs, on T=0
        raise sender.error("ENVELOPE", f"the card answered {answer[-2:].hex().upper()}; {_ENVELOPE_ADVICE}")
    if is_last:
        answer = yield from _fetch(sender, answer, expected, command, options)
    return R_APDU.from_bytes(answer, secret=may_carry_secret(command))


def _expected_size(command: C_APDU, lengths: Lengths) -> int | None:
    """How many bytes of data the caller expects; None: all there are."""
    ne = command.le
    is_short = len(command.data) <= 0xFF or lengths is Lengths.CHAINING
    return None if ne in (0, 0x10000) or (ne == 0x100 and is_short) else ne


def _send(sender: _StepSender, parts: list[bytes]) -> Generator[bytes, bytes, tuple[bytes, bool]]:
    """Send all parts of a command; the answer that counts, and whether it answers the last part."""
    for number, tpdu in enumerate(parts[:-1], 1):
        answer = yield from sender.transmit(tpdu, f"part {number} of {len(parts)}")
        if answer[-2:] != b"\x90\0":
            return answer, False
    answer = yield from sender.transmit(parts[-1], "last part" if len(parts) > 1 else "command")
    return answer, True


def _fetch(
    sender: _StepSender, answer: bytes, expected: int | None, command: C_APDU, options: ExchangeOptions
) -> Generator[bytes, bytes, bytes]:
    """GET RESPONSE for as long as the card announces more; all data, and the last status."""
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
        if expected is not None:
            if len(collected) >= expected:
                sw = b"\x90\0"
                break
            le = min(le, expected - len(collected))
        answer = yield from sender.transmit(bytes((*header, le & 0xFF)), "GET RESPONSE")
        if answer[-2] == 0x6C:
            right = answer[-1] or 0x100
            if right == le:
                raise sender.error("GET RESPONSE", f"{answer[-2:].hex().upper()} does not ask for another Le than was sent")
            answer = yield from sender.transmit(bytes((*header, right & 0xFF)), "GET RESPONSE with Le corrected")
            if answer[-2] == 0x6C:
                raise sender.error("GET RESPONSE with Le corrected", f"{answer[-2:].hex().upper()} once more")
        sw = answer[-2:]
        more = sw[0] in announcing
        collected += answer[:-2]
        if more and len(answer) == 2:
            raise sender.error("GET RESPONSE", f"{sw.hex().upper()} and no data")
    if kept and (sw == b"\x90\0" or not collected):
        sw = kept
    return bytes(collected[:expected]) + sw
