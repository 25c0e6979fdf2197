"""What sessions tell a trace of the wire: each call of PC/SC for a card, with what the caller asked for.

Rules:

- `receivers` is replaced as a whole, from any thread. While it is empty a session looks at it once for each step and each command,
  and does nothing more.
- What a command takes on the wire is gathered until the command has ended: only then is it known what in it may be secret (see
  `iso7816._secrets`). It is told in the thread that called PC/SC, inside the session's lock.
- A receiver that raises is logged, and neither ends nor changes the exchange.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from .._threads import log_safely
from ..iso7816._apdu import C_APDU, R_APDU

logger = logging.getLogger("scardface.session")

Kind: TypeAlias = Literal["connect", "command", "transmit", "control", "attribute", "reset", "reconnect", "removal", "disconnect"]


class Step(NamedTuple):
    """One call of PC/SC, and what came back.

    Attributes:
        at: when it began (`time.monotonic`).
        seconds: how long it took.
        sent: the bytes for the card or the reader; empty where there are none.
        received: the bytes that came back; the ATR of a connect; empty if the call failed.
        error: what the call raised.
    """

    at: float
    seconds: float
    sent: bytes
    received: bytes
    error: BaseException | None = None


class Traffic(NamedTuple):
    """What was asked for, and the steps that it took.

    Attributes:
        reader: the reader's name.
        kind: "command" is one of a `send`, "transmit" a raw exchange.
        text: in words what was asked for, where that is no command; without secrets.
        steps: at least one, but for a removal.
        secret: whether the bytes of the steps may carry a secret.
        command: what the caller sent; None where the kind is another one, or where it is not a whole command.
        response: what the caller got; None if there was an error.
        error: what the caller got in its place.
    """

    reader: str
    kind: Kind
    text: str
    steps: tuple[Step, ...]
    secret: bool = False
    command: C_APDU | None = None
    response: R_APDU | None = None
    error: BaseException | None = None


Receiver: TypeAlias = Callable[[Traffic], object]

receivers: tuple[Receiver, ...] = ()


def tell(traffic: Traffic) -> None:
    """Tell all receivers."""
    for receiver in receivers:
        try:
            receiver(traffic)
        except Exception:
            log_safely(logger.exception, "a trace could not be written")


def timed(steps: list[Step], sent: bytes, call: Callable[..., bytes], *args: Any) -> bytes:
    """Call `call`, which returns what was received, and add the step to `steps`."""
    at = time.monotonic()
    try:
        received = call(*args)
    except BaseException as error:
        steps.append(Step(at, time.monotonic() - at, sent, b"", error))
        raise
    steps.append(Step(at, time.monotonic() - at, sent, received))
    return received


def tell_call(reader: str, kind: Kind, text: str, sent: bytes, secret: bool, call: Callable[..., Any], *args: Any) -> Any:
    """Call `call`, and tell of it as one step; what it returns counts as received where it is bytes."""
    at = time.monotonic()
    try:
        result = call(*args)
    except BaseException as error:
        tell(Traffic(reader, kind, text, (Step(at, time.monotonic() - at, sent, b"", error),), secret, error=error))
        raise
    received = result if isinstance(result, bytes) else b""
    tell(Traffic(reader, kind, text, (Step(at, time.monotonic() - at, sent, received),), secret))
    return result
