"""Commands to one card, in order: prepared, exchanged step by step, begun anew after a reset, traced. Blocking.

Who may call it from where: the session that owns it, inside its lock.

Rules of this room:

- How a command goes out is `_exchange`'s to say. Here is what spans commands: the order, the end of the batch, who hears of it.
- A response that nobody sees is not made.
- After a reset by another program a command begins anew only where its caller says that state on the card does not matter, and
  never through a layer, which keeps some.
- Exchanges are logged at DEBUG with what may be secret left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from .._enums import Lengths, Protocol
from ..errors import CardCommunicationError, CardRemovedError, CardResetError, SCardError
from ..iso7816._apdu import C_APDU, R_APDU, redacted
from ..iso7816._exchange import Learned, Steps, carry, exchange, is_plain_success, one_step, whole_response
from ..iso7816._layer import Layer, layered
from ..iso7816._secrets import Exchanges, may_be_secret
from .card_request import CardRequest

logger = logging.getLogger("scardface.apdu")

Prepared: TypeAlias = "tuple[C_APDU, bytes | Steps, bool]"
"""A command of the caller's, checked; what carries it: the bytes of its one step, or its exchange, not begun; may it begin anew?"""
Hearer: TypeAlias = Callable[[C_APDU, R_APDU], object]
Asker: TypeAlias = Callable[[], bool]

_RESETS = 3
"""How often one command begins anew after resets by others."""


class Exchanger:
    """See the head of this file.

    Args:
        transmit: one step with the card: bytes there, bytes back.
        come_back: reconnects after a reset by another, and calls `settle`.
    """

    def __init__(
        self, reader: str, request: CardRequest, transmit: Callable[[bytes], bytes], come_back: Callable[[], None]
    ) -> None:
        self._reader = reader
        self._options = request.options
        self._repeats = request.on_reset == "reconnect"
        self._transmit = transmit
        self._come_back = come_back
        self._learned = Learned()
        self._traced = Exchanges(may_be_secret)

    def settle(self, protocol: Protocol, lengths: Lengths) -> None:
        """Take what a connect or reconnect has settled on."""
        self._protocol, self._lengths = protocol, lengths
        self._one_step = one_step(protocol, lengths, self._options)

    def prepare(self, commands: Sequence[C_APDU], layer: Layer | None = None) -> list[Prepared]:
        """The exchanges of `commands`.

        Raises:
            ValueError: one of them cannot be sent to this card; nothing has been sent. With a layer, its turn tells.
        """
        if layer is not None:
            carriers = [
                layered(command, layer, self._protocol, self._lengths, self._options, self._learned) for command in commands
            ]
            return [(command, carrier, False) for command, carrier in zip(commands, carriers, strict=True)]
        encode, repeats = self._one_step, self._repeats
        return [(command, encode(command) or self._steps(command), repeats) for command in commands]

    def _steps(self, command: C_APDU) -> Steps:
        return exchange(command, self._protocol, self._lengths, self._options, self._learned)

    def run(self, batch: Sequence[Prepared], abandoned: Asker | None = None) -> R_APDU | None:
        """Exchange the commands in order, up to the first whose final status is not 9000.

        Args:
            batch: at least one command, from `prepare`.
            abandoned: asked before each command; True ends the batch.

        Returns:
            The last response; None if the batch was abandoned.

        Raises:
            CardRemovedError: it says how many commands had been answered.
        """
        response: R_APDU | None = None
        answered, first = 0, None
        traced = logger.isEnabledFor(logging.DEBUG)
        try:
            if not traced and len(batch) > 1:
                answered, first = self._unseen(batch, abandoned)
            for command, way, repeats in batch[answered:] if answered else batch:
                if abandoned is not None and abandoned():
                    return None
                response = self._exchange_anew(command, way) if repeats else self._exchange(command, way, first)
                answered, first = answered + 1, None
                if traced:
                    hidden = self._traced.hides(command, response.sw)
                    logger.debug("%s: %s -> %s", self._reader, redacted(command, hidden), redacted(response, hidden))
                if response.sw2 or response.sw1 != 0x90:
                    break
        except CardRemovedError as error:
            error.answered = answered
            raise
        return response

    def short_way(self, command: C_APDU) -> bytes | None:
        """The bytes of a command for `run_one`; None where it needs the long way round."""
        return None if self._repeats or logger.isEnabledFor(logging.DEBUG) else self._one_step(command)

    def run_one(self, command: C_APDU, way: bytes) -> R_APDU:
        """`run` for one command that one step carries. Beyond PC/SC's own time that takes half as long.

        Raises:
            CardRemovedError: as `run`.
        """
        try:
            return self._exchange(command, way)
        except CardRemovedError as error:
            error.answered = 0
            raise

    def _unseen(self, batch: Sequence[Prepared], abandoned: Asker | None) -> tuple[int, bytes | SCardError | None]:
        """Exchange the commands before the last, as long as one step of each brings 9000.

        Returns:
            How many that were, and what came of the first step of the next, if that has been taken.
        """
        for done, (_, way, repeats) in enumerate(batch[:-1]):
            if repeats or not isinstance(way, bytes) or (abandoned is not None and abandoned()):
                return done, None
            try:
                answer = self._transmit(way)
            except SCardError as error:
                return done, error
            if not is_plain_success(answer):
                return done, answer
        return len(batch) - 1, None

    def _exchange(self, command: C_APDU, way: bytes | Steps, first: bytes | SCardError | None = None) -> R_APDU:
        """One command; `first`: what came of its first step, if that has been taken."""
        if not isinstance(way, bytes):
            return self._carry(way)
        try:
            answer = self._transmit(way) if first is None else first
        except SCardError as error:
            answer = error
        if isinstance(answer, bytes):
            response = whole_response(command, answer)
            if response is not None:
                return response
        return self._carry(self._steps(command), answer)

    def _exchange_anew(self, command: C_APDU, way: bytes | Steps) -> R_APDU:
        for _ in range(_RESETS):
            try:
                return self._exchange(command, way)
            except CardResetError:  # the step was not carried out, and what those before it did is undone
                self._come_back()
                [(_, way, _)] = self.prepare([command])
        return self._exchange(command, way)

    def _carry(self, steps: Steps, first: bytes | SCardError | None = None) -> R_APDU:
        try:
            return carry(steps, self._transmit, first)
        except CardCommunicationError as error:  # what the exchange itself found wrong knows no reader
            if error.reader:
                raise
            raise CardCommunicationError(f"reader {self._reader!r}: {error}", error.code, error.call, self._reader) from error
