"""Channels and layers hand on what they prepared, and return what they got, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest

from scardface import C_APDU, R_APDU
from scardface._faces.routes import Channel, Layered
from scardface.iso7816._judgement import Judgement


class Plain:
    """A layer that changes nothing."""

    def wrap(self, command: C_APDU) -> C_APDU:
        return command

    def unwrap(self, response: R_APDU) -> R_APDU:
        return response


class Card:
    """Takes what a route hands on."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def _judged_by(self, success: Any) -> Any:
        return success and Judgement(success)

    def _kept_and_judged_by(self, success: Any, stop: bool) -> Judgement:
        return Judgement(success, stop, [])

    def _exchange(self, *args: Any) -> str:
        self.sent.append(args)
        return "outcome"

    def _exchange_all(self, *args: Any) -> list[str]:
        self.sent.append(args)
        return ["outcome"]


def test_a_channel_prepares_everything_before_anything_is_sent() -> None:
    card = Card()
    channel: Channel[Any, Any] = Channel(card, 3)
    assert channel.number == 3
    assert channel.send(C_APDU(0, 0xB0), bytes(4), callback=print) == "outcome"
    assert card.sent == [([C_APDU(3, 0xB0), C_APDU(3, 0)], print, None, None, None)]
    for send in (channel.send, channel.send_all):
        with pytest.raises(ValueError, match="class FF"):
            send(C_APDU(0), C_APDU(0xFF))
        with pytest.raises(ValueError, match="at least one"):
            send()
    assert len(card.sent) == 1


def test_a_channel_hands_on_how_to_judge() -> None:
    card = Card()
    channel: Channel[Any, Any] = Channel(card, 3)
    channel.send(C_APDU(0, 0xB0), success=["91xx"], timeout=2)
    assert channel.send_all(C_APDU(0, 0xB0), success=["91xx"], stop=False) == ["outcome"]
    assert card.sent == [
        ([C_APDU(3, 0xB0)], None, None, Judgement(["91xx"]), 2),  # type: ignore[arg-type]  # checked by the card
        ([C_APDU(3, 0xB0)], None, Judgement(["91xx"], False, []), None),  # type: ignore[arg-type]
    ]


def test_a_layer_leaves_the_commands_to_their_turn() -> None:
    card = Card()
    layered: Layered[Any, Any] = Layered(card, Plain())
    assert layered.send(C_APDU(0xFF, 0xB0)) == "outcome"
    assert layered.send_all(C_APDU(0xFF, 0xB0), stop=False) == ["outcome"]
    [(commands, callback, layer, judgement, _), (again, same_layer, keeping, _)] = card.sent
    assert (commands, callback, judgement) == ([C_APDU(0xFF, 0xB0)], None, None)
    assert (again, keeping) == (commands, Judgement(None, False, []))
    assert layer is same_layer
    assert layer.wrap(commands[0]) == commands[0]


def test_a_layer_in_a_channel_enters_it_last() -> None:
    card = Card()
    channel: Channel[Any, Any] = Channel(card, 2)
    channel.layer(Plain()).send(C_APDU(0, 0xB0))
    [(commands, _, layer, _, _)] = card.sent
    assert (commands, layer.wrap(commands[0])) == ([C_APDU(0, 0xB0)], C_APDU(2, 0xB0))
    assert layer.unwrap(R_APDU(b"x", 0x90, 0)) == R_APDU(b"x", 0x90, 0)
