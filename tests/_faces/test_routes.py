"""Channels and layers hand on what they prepared, and return what they got, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest

from scardface import C_APDU, R_APDU
from scardface._faces.routes import Channel, Layered


class Plain:
    """A layer that changes nothing."""

    def wrap(self, command: C_APDU) -> C_APDU:
        return command

    def unwrap(self, response: R_APDU) -> R_APDU:
        return response


def test_a_channel_prepares_everything_before_anything_is_sent() -> None:
    sent: list[Any] = []
    channel: Channel[Any] = Channel(lambda *args: sent.append(args) or "outcome", 3)  # type: ignore[func-returns-value]
    assert channel.number == 3
    assert channel.send(C_APDU(0, 0xB0), bytes(4), callback=print) == "outcome"
    assert sent == [([C_APDU(3, 0xB0), C_APDU(3, 0)], print, None)]
    with pytest.raises(ValueError, match="class FF"):
        channel.send(C_APDU(0), C_APDU(0xFF))
    with pytest.raises(ValueError, match="at least one"):
        channel.send()
    assert len(sent) == 1


def test_a_layer_leaves_the_commands_to_their_turn() -> None:
    sent: list[Any] = []
    layered: Layered[Any] = Layered(lambda *args: sent.append(args) or "outcome", Plain())  # type: ignore[func-returns-value]
    assert layered.send(C_APDU(0xFF, 0xB0)) == "outcome"
    [(commands, callback, layer)] = sent
    assert (commands, callback) == ([C_APDU(0xFF, 0xB0)], None)
    assert layer.wrap(commands[0]) == commands[0]


def test_a_layer_in_a_channel_enters_it_last() -> None:
    sent: list[Any] = []
    channel: Channel[Any] = Channel(lambda *args: sent.append(args), 2)
    channel.layer(Plain()).send(C_APDU(0, 0xB0))
    [(commands, _, layer)] = sent
    assert (commands, layer.wrap(commands[0])) == ([C_APDU(0, 0xB0)], C_APDU(2, 0xB0))
    assert layer.unwrap(R_APDU(b"x", 0x90, 0)) == R_APDU(b"x", 0x90, 0)
