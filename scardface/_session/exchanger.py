"""Commands to one card, in order: encoded, exchanged step by step, repeated after a reset, logged. Blocking.

Only the session that owns the card calls it, inside its lock.

Rules:

- What one command takes (61xx, 6Cxx, chaining, ENVELOPE) is decided in `iso7816._exchange`. Here is what concerns several commands:
  their order, the end of a batch, the log.
- There is one way for a command, with one shortcut: where a single step carries it and the answer is complete, the generator that
  `exchange` makes is not started. Where the answer is not complete, the generator goes on from there; no step is sent twice.
- After a reset by another program a command is repeated only where the caller has declared that state on the card does not matter
  (`on_reset="reconnect"`), and never through a layer, which keeps state.
- Exchanges are logged at DEBUG; data that may be secret are left out. A trace of the wire is told of each command and its steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from .._enums import Lengths, Protocol
from ..errors import CardCommunicationError, CardRemovedError, CardResetError, SCardError
from ..iso7816._apdu import C_APDU, R_APDU, as_command, redacted
from ..iso7816._exchange import CardTraits, Steps, complete_response, exchange, run_steps, single_step_encoder
from ..iso7816._judgement import Judgement
from ..iso7816._layer import Layer, layered
from ..iso7816._secrets import SecretTracker, may_carry_secret
from . import trace_hook
from .card_request import CardRequest
from .pin_watch import REFERENCE_DATA, PinWatch
from .trace_hook import Kind, Step, Traffic

logger = logging.getLogger("scardface.apdu")

PreparedCommand: TypeAlias = "tuple[C_APDU, bytes | Steps, bool]"
"""A checked command; its only step as bytes, or the generator of its steps, not started; whether a reset lets it be repeated."""
ResponseCallback: TypeAlias = Callable[[C_APDU, R_APDU], object]
IsAbandoned: TypeAlias = Callable[[], bool]

_MAX_REPEATS = 3
"""How often one command is repeated after resets by other programs."""


class Exchanger:
    """Exchanges commands with one card; see the module's docstring.

    Args:
        transmit: sends one step to the card and returns its answer.
        reconnect: reconnects after a reset by another program, and calls `configure`.
        failed: is told of the error that a command has ended with.

    Attributes:
        pins: is told of each command and may refuse it; None: nobody is.
    """

    def __init__(
        self,
        reader: str,
        request: CardRequest,
        transmit: Callable[[bytes], bytes],
        reconnect: Callable[[], None],
        failed: Callable[[SCardError], object],
    ) -> None:
        self._reader = reader
        self._options = request.options
        self._repeats = request.on_reset == "reconnect"
        self._transmit = transmit
        self._reconnect = reconnect
        self.steps: list[Step] = []  # of the command under way, while somebody traces
        self._traits = CardTraits()
        self._secrets = SecretTracker(may_carry_secret)
        self._failed = failed
        self.pins: PinWatch | None = None

    def configure(self, protocol: Protocol, lengths: Lengths) -> None:
        """Set what the connection uses now; called after each connect and reconnect."""
        self._protocol, self._lengths = protocol, lengths
        self._encode = single_step_encoder(protocol, lengths, self._options)

    def prepare(self, commands: Sequence[C_APDU], layer: Layer | None = None) -> list[PreparedCommand]:
        """Encode commands for `run`.

        Raises:
            ValueError: one of them cannot be sent to this card; nothing has been sent. Through a layer, `run` raises it when the
                command's turn has come.
        """
        if layer is not None:
            steps = [layered(command, layer, self._protocol, self._lengths, self._options, self._traits) for command in commands]
            return [(command, each, False) for command, each in zip(commands, steps, strict=True)]
        encode, repeats = self._encode, self._repeats
        return [(command, encode(command) or self._steps(command), repeats) for command in commands]

    def _steps(self, command: C_APDU) -> Steps:
        return exchange(command, self._protocol, self._lengths, self._options, self._traits)

    def run(
        self, batch: Sequence[PreparedCommand], abandoned: IsAbandoned | None = None, judgement: Judgement | None = None
    ) -> R_APDU | None:
        """Exchange the commands in order, up to the first whose final status is not a success.

        Args:
            batch: at least one command, from `prepare`.
            abandoned: asked before each command; True ends the batch.
            judgement: which statuses are one, and whether others end the batch; None: 9000 alone, and they do.

        Returns:
            The last response; None if the batch was abandoned.

        Raises:
            CardRemovedError: its `answered` says how many commands had been answered.
        """
        response: R_APDU | None = None
        answered = 0
        logged = logger.isEnabledFor(logging.DEBUG)
        pins = self.pins
        try:
            for command, step_or_steps, repeatable in batch:
                if abandoned is not None and abandoned():
                    return None
                if pins is not None and command.ins in REFERENCE_DATA:
                    pins.check(command, self._ask if isinstance(step_or_steps, bytes) else None, self._reader)
                response = (
                    self._exchange_repeatedly(command, step_or_steps) if repeatable else self._exchange(command, step_or_steps)
                )
                answered += 1
                if pins is not None and command.ins in REFERENCE_DATA:
                    pins.take(command, response)
                hidden = self._secrets.hides(command, response.sw, response.data)  # what is selected counts later, logged or not
                if logged:
                    logger.debug("%s: %s -> %s", self._reader, redacted(command, hidden), redacted(response, hidden))
                if self.steps:  # also of a command during which a trace began
                    self._tell("command", command, hidden, response)
                if judgement is not None:
                    judgement.take(response)
                    if judgement.stop and not response.is_successful():
                        break
                elif response.sw2 or response.sw1 != 0x90:
                    break
        except BaseException as error:
            if self.steps:
                self._tell("command", command, self._secrets.hides(command, 0), error=error)
            if isinstance(error, SCardError):
                self._failed(error)
                if pins is not None:
                    pins.lose(command, error)
                if isinstance(error, CardRemovedError):
                    error.answered = answered
            raise
        return response

    def _ask(self, command: C_APDU) -> R_APDU:
        """One more command, of no batch."""
        response = self.run(self.prepare([command]))
        assert response is not None, "it is not abandoned"
        return response

    def transmit(self, raw: bytes) -> bytes:
        """One exchange of bytes as they are; what it selects decides what later ones show."""
        command = as_command(raw)
        if self.pins is not None:
            self.pins.check(command, self._ask, self._reader)
        try:
            answer = self._transmit(raw)
        except BaseException as error:
            if self.steps:
                self._tell("transmit", command, self._secrets.hides(command, 0), error=error)
            if self.pins is not None and isinstance(error, SCardError):
                self.pins.lose(command, error)
            raise
        response = R_APDU(answer[:-2], answer[-2], answer[-1])
        hidden = self._secrets.hides(command, response.sw, response.data)
        if self.pins is not None:
            self.pins.take(command, response)
        if self.steps:
            self._tell("transmit", command, hidden, response)
        return answer

    def _tell(
        self, kind: Kind, command: C_APDU, hidden: bool, response: R_APDU | None = None, error: BaseException | None = None
    ) -> None:
        """Tell a trace of a command that has ended."""
        steps = tuple(self.steps)
        self.steps.clear()
        trace_hook.tell(Traffic(self._reader, kind, "", steps, hidden, command, response, error))

    def _exchange(self, command: C_APDU, step_or_steps: bytes | Steps) -> R_APDU:
        """Exchange one command: by the shortcut if it has only one step and the answer is complete, else step by step."""
        if not isinstance(step_or_steps, bytes):
            return self._run_steps(step_or_steps)
        first: bytes | SCardError
        try:
            first = self._transmit(step_or_steps)
        except SCardError as error:
            first = error
        else:
            response = complete_response(command, first)
            if response is not None:
                return response
        return self._run_steps(self._steps(command), first)

    def _exchange_repeatedly(self, command: C_APDU, step_or_steps: bytes | Steps) -> R_APDU:
        """As `_exchange`, again after each reset by another program: the step was not executed, and earlier ones are undone."""
        for _ in range(_MAX_REPEATS):
            try:
                return self._exchange(command, step_or_steps)
            except CardResetError:
                self._reconnect()
                [(_, step_or_steps, _)] = self.prepare([command])
        return self._exchange(command, step_or_steps)

    def _run_steps(self, steps: Steps, first: bytes | SCardError | None = None) -> R_APDU:
        try:
            return run_steps(steps, self._transmit, first)
        except CardCommunicationError as error:  # one that the exchange itself raised does not name the reader
            if error.reader:
                raise
            raise CardCommunicationError(f"reader {self._reader!r}: {error}", error.code, error.call, self._reader) from error
