"""Layers: transformations of commands and responses between the caller and the card, such as secure messaging. No I/O.

Rules:

- A layer wraps each command once, immediately before it is sent, when all earlier responses have been unwrapped: counters and
  chained MACs stay in step. So it may refuse a command in the middle of a batch, not before it.
- Once a command is wrapped, the layer is given the card's last answer to it even if the exchange fails, be it only a status word.
  If the card gave no answer, its counters are unknown, and the layer can no longer be used (LayerClosedError).
- A wrapped command is exchanged by the ordinary rules: chaining, 61xx and 6Cxx are below the layer.
- A layer may have two more methods. `withdraw()` takes back the last `wrap` of a command that cannot be sent, or that the card
  never had whole: it refused a part of a chain, an ENVELOPE, or extended length. Without it what cannot be sent closes the
  layer, and the rest counts as answered. `rewrap(command, ne)` is for cards that have counted a command when they answer 6Cxx,
  and would take the same bytes for a replay: it is called in place of sending them again, once, and makes what goes out with Le
  = `ne`. What such a layer is given is whole: all that the card has is fetched, whatever Le was, for at its end is a checksum.
- A layer is the program's own code and runs in the thread that sends to the card; its exceptions end the batch and are raised.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

from .._enums import Lengths
from .._enums import Protocol as CardProtocol
from ..errors import LayerClosedError, SCardError
from ._apdu import C_APDU, R_APDU
from ._channel import in_channel
from ._exchange import CardTraits, ExchangeOptions, Steps, exchange
from ._secrets import may_carry_secret
from ._tpdu import tpdus


class Layer(Protocol):
    """The argument of `card.layer`: two methods that do no I/O (ISO/IEC 7816-4:2020, clause 10; GlobalPlatform's secure
    channels).

    It may also have `withdraw()`, which takes back the last `wrap`, of a command that cannot be sent, or that the card never had
    whole, and `rewrap(command, ne)`, which wraps the caller's command anew, with Le = `ne`, after the card has answered 6Cxx.
    """

    def wrap(self, command: C_APDU, /) -> C_APDU:
        """The command that goes to the card for the caller's `command`. Called once for each, just before it goes out."""

    def unwrap(self, response: R_APDU, /) -> R_APDU:
        """The response that the caller sees for what the card answered to the last command wrapped; once for each."""


class GuardedLayer:
    """A layer in use with one card. It refuses further commands once one was wrapped whose answer the layer was not given."""

    def __init__(self, layer: Layer, channel: int | None = None) -> None:
        self._layer = layer
        self._channel = channel  # set in the class of the wrapped command
        self._awaits_answer = False
        self.rewraps: bool = callable(getattr(layer, "rewrap", None))
        self.withdraws: bool = callable(getattr(layer, "withdraw", None))

    def wrap(self, command: C_APDU) -> C_APDU:
        """Wrap, then set the channel.

        Raises:
            LayerClosedError: the layer was not given the answer to the last command.
        """
        name = type(self._layer).__name__
        if self._awaits_answer:
            raise LayerClosedError(
                f"{name}: the card has not answered the last command that was wrapped, so its counters may be out of step with the "
                "card's; set up a new secure channel, and pass it to card.layer()"
            )
        self._awaits_answer = True
        try:
            wrapped = self._layer.wrap(command)
        except Exception:
            self._awaits_answer = False  # the layer refused the command
            raise
        return self._made(wrapped, "wrap")

    def rewrap(self, command: C_APDU, ne: int) -> C_APDU:
        """Wrap a command anew, with another Le; for layers that can."""
        layer: Any = self._layer
        return self._made(layer.rewrap(command, ne), "rewrap")

    def withdraw(self) -> None:
        """What was wrapped last is not sent. A layer that cannot take it back stays closed."""
        if self.withdraws:
            layer: Any = self._layer
            layer.withdraw()
            self._awaits_answer = False

    def _made(self, wrapped: C_APDU, method: str) -> C_APDU:
        if not isinstance(wrapped, C_APDU):
            raise TypeError(f"{type(self._layer).__name__}.{method} returned no C_APDU but {type(wrapped).__name__}")
        if self._channel is None:
            return wrapped
        try:
            return in_channel(wrapped, self._channel)
        except ValueError:
            self.withdraw()
            raise

    def unwrap(self, response: R_APDU) -> R_APDU:
        """Unwrap a response."""
        self._awaits_answer = False
        unwrapped = self._layer.unwrap(response)
        if not isinstance(unwrapped, R_APDU):
            raise TypeError(f"{type(self._layer).__name__}.unwrap returned no R_APDU but {type(unwrapped).__name__}")
        return unwrapped


def layered(
    command: C_APDU,
    layer: Layer,
    protocol: CardProtocol,
    lengths: Lengths,
    options: ExchangeOptions,
    traits: CardTraits | None = None,
) -> Steps:
    """The steps of one command through `layer`; as `exchange`, but the wrapped command is checked only when its turn has come.

    If the exchange fails, the card's last answer, if there is one, is given to the layer before the error is raised.
    """
    guarded = layer if isinstance(layer, GuardedLayer) else GuardedLayer(layer)
    wrapped = guarded.wrap(command)
    answer, was_whole = yield from _exchange_wrapped(command, wrapped, guarded, protocol, lengths, options, traits)
    if guarded.rewraps and was_whole and answer.sw1 == 0x6C:
        wrapped = guarded.rewrap(command, answer.sw2 or 0x100)
        answer, was_whole = yield from _exchange_wrapped(command, wrapped, guarded, protocol, lengths, options, traits)
    if not was_whole:
        guarded.withdraw()
        return R_APDU(b"", answer.sw1, answer.sw2)
    response = guarded.unwrap(answer)
    return R_APDU(response.data, response.sw1, response.sw2, secret=response.secret or may_carry_secret(command))


def _exchange_wrapped(
    command: C_APDU,
    wrapped: C_APDU,
    layer: GuardedLayer,
    protocol: CardProtocol,
    lengths: Lengths,
    options: ExchangeOptions,
    traits: CardTraits | None,
) -> Generator[bytes, bytes, tuple[R_APDU, bool]]:
    """The card's answer to what was made of `command`, and whether that was all of it, not a part that was refused.

    If the exchange fails, `layer` hears the last answer.
    """
    try:
        steps = exchange(wrapped, protocol, lengths, options, traits, whole=layer.rewraps)
    except ValueError:
        layer.withdraw()
        raise
    parts = len(tpdus(wrapped, protocol, lengths, options.response_class)) if layer.withdraws else 0
    sent = 0
    answered = b""
    try:
        data = next(steps)
        while True:
            try:
                answered = b""
                sent += 1
                answered = yield data
            except SCardError as error:
                data = steps.throw(error)
            else:
                data = steps.send(answered)
    except StopIteration as end:
        answer: R_APDU = end.value
        return answer, sent >= parts or not _is_error(answer.sw1)
    except Exception as failure:
        never_whole = (
            layer.withdraws and len(answered) >= 2 and (answered[-2] == 0x67 or (sent < parts and _is_error(answered[-2])))
        )
        if never_whole:  # 67xx is an exception only to extended length that the card is not known to take
            layer.withdraw()
        elif len(answered) >= 2:
            try:
                layer.unwrap(R_APDU.from_bytes(answered, secret=may_carry_secret(command)))
            except Exception as refusal:
                raise failure from refusal
        raise


def _is_error(sw1: int) -> bool:
    """Whether a status that begins so says that the command was not carried out (ISO/IEC 7816-4:2020, table 6)."""
    return 0x64 <= sw1 <= 0x6F


def check_layer(layer: object) -> None:
    """TypeError unless `layer` has both methods."""
    for name in ("wrap", "unwrap"):
        if not callable(getattr(layer, name, None)):
            raise TypeError(f"a layer has wrap(command) and unwrap(response); {type(layer).__name__} has no {name}")
