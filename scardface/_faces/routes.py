"""Sending to an open card through a logical channel or a layer. Both faces use these classes, since nothing here waits.

Rules:

- A route prepares the commands and hands them to the card's own exchange, whose outcome it returns as it is: on the async face
  something to await, on the sync face the response.
- A route ends with its card; it owns nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from ..iso7816._apdu import C_APDU, R_APDU, Buffer
from ..iso7816._channel import in_channel
from ..iso7816._layer import GuardedLayer, Layer, check_layer
from .card import commands

T = TypeVar("T")

Callback: TypeAlias = Callable[[C_APDU, R_APDU], object]
Exchange: TypeAlias = "Callable[[list[C_APDU], Callback | None, Layer | None], T]"


class Layered(Generic[T]):
    """An open card through a layer; from `SCard.layer` and `Channel.layer`."""

    def __init__(self, exchange: Exchange[T], layer: Layer, channel: int | None = None) -> None:
        check_layer(layer)
        self._exchange = exchange
        self._layer = GuardedLayer(layer, channel)

    def send(self, *apdus: C_APDU | Buffer, callback: Callback | None = None) -> T:
        """As `SCard.send`, with each command wrapped at its turn and its response unwrapped before anybody sees it.

        Raises:
            Exception: whatever the layer's methods raise, after which the batch goes no further.
            LayerClosedError: the card has not answered the last command that the layer wrapped; nothing is sent. And as
                `SCard.send`.
        """
        return self._exchange(commands(apdus), callback, self._layer)


class Channel(Generic[T]):
    """A logical channel of an open card; from `SCard.channel`.

    Attributes:
        number: 1 to 19.
    """

    def __init__(self, exchange: Exchange[T], number: int) -> None:
        self._exchange = exchange
        self.number = number

    def send(self, *apdus: C_APDU | Buffer, callback: Callback | None = None) -> T:
        """As `SCard.send`, in this channel: the channel is set in each command's class (ISO 7816-4:2020, 5.4.1).

        Raises:
            ValueError: a class that has no place for the channel; nothing is sent then. And as `SCard.send`.
        """
        return self._exchange([in_channel(command, self.number) for command in commands(apdus)], callback, None)

    def layer(self, layer: Layer) -> Layered[T]:
        """As `SCard.layer`, in this channel: the channel is set in the class of what the layer made."""
        return Layered(self._exchange, layer, self.number)
