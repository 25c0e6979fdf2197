"""What a writer of a trace is given: what happened on the wire, without secrets."""

from __future__ import annotations

from typing import NamedTuple

from .._session.trace_hook import Kind, Step, Traffic
from ..iso7816._apdu import as_command, in_digits


class RecordStep(NamedTuple):
    """One call of PC/SC, and what came back.

    Attributes:
        time: when it began, in seconds since 1970 (UTC).
        seconds: how long it took.
        sent: the bytes for the card or the reader; zeros in place of data that may be secret. Empty where there are none.
        received: the bytes that came back, in the same way; the ATR of a connect.
        sent_text: `sent` as hexadecimal digits, with `<8 bytes>` in place of data that may be secret.
        received_text: `received` in the same way.
        error: class and text of what the call raised; empty if it succeeded.
    """

    time: float
    seconds: float
    sent: bytes
    received: bytes
    sent_text: str
    received_text: str
    error: str


class Record(NamedTuple):
    """What was asked of a card, and the steps that it took.

    Attributes:
        time: when it began, in seconds since 1970 (UTC).
        seconds: how long it took, with all its steps.
        reader: the reader's name.
        kind: "connect", "command" (of a `send`), "transmit", "control", "attribute", "reset", "reconnect", "removal" or
            "disconnect".
        text: what was asked for: a command as `00A40400 A000000308 Ne=256`, else in words.
        answer: what the caller got: a response as `6F10840E 9000`; empty if there is none.
        error: class and text of what the caller got instead; empty if there was no error.
        error_class: the class alone.
        secret: whether bytes are left out.
        steps: one at least, but for a removal.
    """

    time: float
    seconds: float
    reader: str
    kind: Kind
    text: str
    answer: str
    error: str
    error_class: str
    secret: bool
    steps: tuple[RecordStep, ...]


def record_of(traffic: Traffic, offset: float, now: float, show_secrets: bool) -> Record:
    """The record of what a session has told.

    Args:
        offset: seconds between the monotonic clock and 1970.
        now: monotonic, for what has no steps.
        show_secrets: leave nothing out.
    """
    secret = not show_secrets and (traffic.secret or (traffic.response is not None and traffic.response.secret))
    is_apdu = traffic.kind in ("command", "transmit")
    steps = tuple(_step(step, offset, secret, is_apdu) for step in traffic.steps)
    begin = traffic.steps[0].at if traffic.steps else now
    end = traffic.steps[-1].at + traffic.steps[-1].seconds if traffic.steps else now
    text, answer = traffic.text, ""
    if traffic.kind == "transmit":
        text, answer = steps[0].sent_text, steps[0].received_text
    elif traffic.command is not None:
        text = in_digits(traffic.command, secret)
        answer = "" if traffic.response is None else in_digits(traffic.response, secret)
    elif steps:
        text = " ".join(filter(None, (text, steps[0].sent_text)))
        answer = steps[-1].received_text
    error = traffic.error
    return Record(
        time=begin + offset,
        seconds=end - begin,
        reader=traffic.reader,
        kind=traffic.kind,
        text=text,
        answer=answer,
        error=_in_words(error),
        error_class="" if error is None else type(error).__name__,
        secret=secret,
        steps=steps,
    )


def _step(step: Step, offset: float, secret: bool, is_apdu: bool) -> RecordStep:
    sent, received = step.sent, step.received
    sent_text, received_text = sent.hex().upper(), received.hex().upper()
    if secret:
        sent_text, received_text = f"<{len(sent)} bytes>" if sent else "", f"<{len(received)} bytes>" if received else ""
        if is_apdu:
            sent_text, received_text = _command_text(sent), _response_text(received)
            sent, received = _without_data(sent), bytes(max(0, len(received) - 2)) + received[-2:]
        else:
            sent, received = bytes(len(sent)), bytes(len(received))
    return RecordStep(step.at + offset, step.seconds, sent, received, sent_text, received_text, _in_words(step.error))


def _in_words(error: BaseException | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {error}".replace("\n", " ")


def _data_of(sent: bytes) -> slice:
    """Where the data of a command is; what cannot be decoded is data from the fifth byte on."""
    length = len(as_command(sent).data)
    if not length or length > len(sent) - 5:
        return slice(4, len(sent)) if length else slice(len(sent), len(sent))
    begin = 7 if sent[4] == 0 and len(sent) > 7 else 5
    return slice(begin, begin + length)


def _without_data(sent: bytes) -> bytes:
    data = _data_of(sent)
    return sent[: data.start] + bytes(len(sent[data])) + sent[data.stop :]


def _command_text(sent: bytes) -> str:
    data = _data_of(sent)
    hidden = f"<{len(sent[data])} bytes>" if sent[data] else ""
    return " ".join(filter(None, (sent[: data.start].hex().upper(), hidden, sent[data.stop :].hex().upper())))


def _response_text(received: bytes) -> str:
    hidden = f"<{len(received) - 2} bytes>" if len(received) > 2 else ""
    return " ".join(filter(None, (hidden, received[-2:].hex().upper())))
