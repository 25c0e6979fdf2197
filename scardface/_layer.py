"""Layers: what stands between the caller's commands and the card, such as secure messaging. Pure.

Rules of this room:

- A layer wraps each command at its turn, once, when all responses before it have been unwrapped: counters and chained MACs stay in
  step. So its refusals come at that turn, too, not before the batch.
- What is wrapped is exchanged by the ordinary rules: chaining, 61xx and 6Cxx are below the layer.
- A layer is the program's own code and runs in the thread that speaks to the card; its exceptions end the batch and come out.
"""

from __future__ import annotations

from typing import Protocol

from ._apdu import C_APDU, R_APDU, is_secret
from ._channel import in_channel
from ._enums import Lengths
from ._enums import Protocol as CardProtocol
from ._exchange import ExchangeOptions, Learned, Steps, exchange


class Layer(Protocol):
    """What `card.layer` takes: two methods that do no I/O (ISO/IEC 7816-4:2020, clause 10; GlobalPlatform's secure channels)."""

    def wrap(self, command: C_APDU, /) -> C_APDU:
        """The command that goes to the card for the caller's `command`. Called once for each, just before it goes out."""

    def unwrap(self, response: R_APDU, /) -> R_APDU:
        """The response that the caller sees for what the card answered to the last command wrapped."""


class InChannel:
    """A layer in a logical channel: the channel is put into the class of what the layer made."""

    def __init__(self, layer: Layer, number: int) -> None:
        self._layer = layer
        self._number = number

    def wrap(self, command: C_APDU) -> C_APDU:
        """Wrap, then enter the channel."""
        return in_channel(self._layer.wrap(command), self._number)

    def unwrap(self, response: R_APDU) -> R_APDU:
        """Unwrap; a response names no channel."""
        return self._layer.unwrap(response)


def layered(
    command: C_APDU,
    layer: Layer,
    protocol: CardProtocol,
    lengths: Lengths,
    options: ExchangeOptions,
    learned: Learned | None = None,
) -> Steps:
    """The steps of one command through `layer`; as `exchange`, but what the layer made is checked at its turn.

    Raises:
        TypeError: from the generator: the layer made something that is no C_APDU, or no R_APDU.
    """
    wrapped = layer.wrap(command)
    if not isinstance(wrapped, C_APDU):
        raise TypeError(f"{type(layer).__name__}.wrap returned no C_APDU but {type(wrapped).__name__}")
    response = layer.unwrap((yield from exchange(wrapped, protocol, lengths, options, learned)))
    if not isinstance(response, R_APDU):
        raise TypeError(f"{type(layer).__name__}.unwrap returned no R_APDU but {type(response).__name__}")
    return R_APDU(response.data, response.sw1, response.sw2, secret=response.secret or is_secret(command))


def check_layer(layer: object) -> None:
    """TypeError unless `layer` has both methods."""
    for name in ("wrap", "unwrap"):
        if not callable(getattr(layer, name, None)):
            raise TypeError(f"a layer has wrap(command) and unwrap(response); {type(layer).__name__} has no {name}")
