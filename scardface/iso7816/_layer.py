"""Layers: what stands between the caller's commands and the card, such as secure messaging. Pure.

Rules:

- A layer wraps each command at its turn, once, when all responses before it have been unwrapped: counters and chained MACs stay in
  step. So its refusals come at that turn, too, not before the batch.
- Once a command is wrapped, the layer hears what the card said to it, whatever goes wrong: a bare status of an exchange that fails,
  too. Where the card said nothing to the end of it, nobody knows which step it is at: the way through the layer is closed.
- What is wrapped is exchanged by the ordinary rules: chaining, 61xx and 6Cxx are below the layer.
- A layer is the program's own code and runs in the thread that speaks to the card; its exceptions end the batch and come out.
"""

from __future__ import annotations

from typing import Protocol

from .._enums import Lengths
from .._enums import Protocol as CardProtocol
from ..errors import LayerClosedError, SCardError
from ._apdu import C_APDU, R_APDU, is_secret
from ._channel import in_channel
from ._exchange import CardTraits, ExchangeOptions, Steps, exchange


class Layer(Protocol):
    """What `card.layer` takes: two methods that do no I/O (ISO/IEC 7816-4:2020, clause 10; GlobalPlatform's secure channels)."""

    def wrap(self, command: C_APDU, /) -> C_APDU:
        """The command that goes to the card for the caller's `command`. Called once for each, just before it goes out."""

    def unwrap(self, response: R_APDU, /) -> R_APDU:
        """The response that the caller sees for what the card answered to the last command wrapped; once for each."""


class GuardedLayer:
    """A layer as one way to one card, which is closed once a command was wrapped whose answer the layer has not heard."""

    def __init__(self, layer: Layer, channel: int | None = None) -> None:
        self._layer = layer
        self._channel = channel  # put into the class of what the layer made
        self._waits = False

    def wrap(self, command: C_APDU) -> C_APDU:
        """Wrap, then enter the channel.

        Raises:
            LayerClosedError: the layer waits for an answer still.
        """
        name = type(self._layer).__name__
        if self._waits:
            raise LayerClosedError(
                f"{name}: the card has not answered the last command that was wrapped, so its counters may be out of step with the "
                "card's; set up a new secure channel, and go through it by card.layer()"
            )
        self._waits = True
        try:
            wrapped = self._layer.wrap(command)
        except Exception:
            self._waits = False  # it has refused the command
            raise
        if not isinstance(wrapped, C_APDU):
            raise TypeError(f"{name}.wrap returned no C_APDU but {type(wrapped).__name__}")
        return wrapped if self._channel is None else in_channel(wrapped, self._channel)

    def unwrap(self, response: R_APDU) -> R_APDU:
        """Unwrap; a response names no channel."""
        self._waits = False
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
    """The steps of one command through `layer`; as `exchange`, but what the layer made is checked at its turn.

    If the exchange fails and the card's last word is known, the layer hears it; the failure comes out all the same.
    """
    steps = exchange(layer.wrap(command), protocol, lengths, options, traits)
    said = b""
    try:
        data = next(steps)
        while True:
            try:
                said = b""
                said = yield data
            except SCardError as error:
                data = steps.throw(error)
            else:
                data = steps.send(said)
    except StopIteration as end:
        answer: R_APDU = end.value
    except Exception as failure:
        if len(said) >= 2:
            try:
                layer.unwrap(R_APDU.from_bytes(said, secret=is_secret(command)))
            except Exception as refusal:
                raise failure from refusal
        raise
    response = layer.unwrap(answer)
    return R_APDU(response.data, response.sw1, response.sw2, secret=response.secret or is_secret(command))


def check_layer(layer: object) -> None:
    """TypeError unless `layer` has both methods."""
    for name in ("wrap", "unwrap"):
        if not callable(getattr(layer, name, None)):
            raise TypeError(f"a layer has wrap(command) and unwrap(response); {type(layer).__name__} has no {name}")
