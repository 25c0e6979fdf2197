"""Sending to an open card through a logical channel or a layer. Both faces use these classes, since nothing here waits.

Rules:

- A route prepares the commands and hands them to the card's own exchange, whose outcome it returns as it is: on the async face
  something to await, on the sync face the response.
- A route ends with its card; it owns nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeAlias, TypeVar

from ..iso7816._apdu import C_APDU, R_APDU, Buffer, Success
from ..iso7816._channel import in_channel
from ..iso7816._judgement import Judgement
from ..iso7816._layer import GuardedLayer, Layer, check_layer
from .card import commands

T_co = TypeVar("T_co", covariant=True)
L_co = TypeVar("L_co", covariant=True)

Callback: TypeAlias = Callable[[C_APDU, R_APDU], object]


class Sender(Protocol[T_co, L_co]):
    """What carries out the exchanges of a route: an open card, or a recorder that wraps one."""

    def _judged_by(self, success: Success | None, /) -> Judgement | None: ...

    def _kept_and_judged_by(self, success: Success | None, stop: bool, /) -> Judgement: ...

    def _exchange(
        self,
        commands: list[C_APDU],
        callback: Callback | None,
        layer: Layer | None,
        judgement: Judgement | None,
        timeout: float | None,
        /,
    ) -> T_co: ...

    def _exchange_all(
        self, commands: list[C_APDU], layer: Layer | None, judgement: Judgement, timeout: float | None, /
    ) -> L_co: ...


class Layered(Generic[T_co, L_co]):
    """An open card through a layer; from `SCard.layer` and `Channel.layer`."""

    def __init__(self, sender: Sender[T_co, L_co], layer: Layer, channel: int | None = None) -> None:
        check_layer(layer)
        self._sender = sender
        self._layer = GuardedLayer(layer, channel)

    def send(
        self,
        *apdus: C_APDU | Buffer,
        callback: Callback | None = None,
        success: Success | None = None,
        timeout: float | None = None,
    ) -> T_co:
        """As `SCard.send`, with each command wrapped at its turn and its response unwrapped before anybody sees it.

        Raises:
            Exception: whatever the layer's methods raise, after which the batch goes no further.
            LayerClosedError: the card has not answered the last command that the layer wrapped; nothing is sent. And as
                `SCard.send`.
        """
        return self._sender._exchange(commands(apdus), callback, self._layer, self._sender._judged_by(success), timeout)

    def send_all(
        self, *apdus: C_APDU | Buffer, stop: bool = True, success: Success | None = None, timeout: float | None = None
    ) -> L_co:
        """As `SCard.send_all`, through the layer.

        Raises:
            Exception: as `send`.
        """
        return self._sender._exchange_all(commands(apdus), self._layer, self._sender._kept_and_judged_by(success, stop), timeout)


class Channel(Generic[T_co, L_co]):
    """A logical channel of an open card; from `SCard.channel`.

    Attributes:
        number: 1 to 19.
    """

    def __init__(self, sender: Sender[T_co, L_co], number: int) -> None:
        self._sender = sender
        self.number = number

    def send(
        self,
        *apdus: C_APDU | Buffer,
        callback: Callback | None = None,
        success: Success | None = None,
        timeout: float | None = None,
    ) -> T_co:
        """As `SCard.send`, in this channel: the channel is set in each command's class (ISO 7816-4:2020, 5.4.1).

        Raises:
            ValueError: a class that has no place for the channel; nothing is sent then. And as `SCard.send`.
        """
        return self._sender._exchange(self._commands(apdus), callback, None, self._sender._judged_by(success), timeout)

    def send_all(
        self, *apdus: C_APDU | Buffer, stop: bool = True, success: Success | None = None, timeout: float | None = None
    ) -> L_co:
        """As `SCard.send_all`, in this channel.

        Raises:
            ValueError: as `send`.
        """
        return self._sender._exchange_all(self._commands(apdus), None, self._sender._kept_and_judged_by(success, stop), timeout)

    def layer(self, layer: Layer) -> Layered[T_co, L_co]:
        """As `SCard.layer`, in this channel: the channel is set in the class of what the layer made."""
        return Layered(self._sender, layer, self.number)

    def _commands(self, apdus: tuple[C_APDU | Buffer, ...]) -> list[C_APDU]:
        return [in_channel(command, self.number) for command in commands(apdus)]
