"""scardface.testing._card_calls: what a card's code may do wrong."""

from __future__ import annotations

from typing import Any

import pytest

from scardface.testing import VirtualCard
from scardface.testing import _card_calls as calls
from scardface.testing._virtual_card import raise_kept


class Scripted(VirtualCard):
    """Does what it is told."""

    def __init__(self, answer: Any = b"\x90\x00", atr: Any = b"\x3b\x00", hook: Exception | None = None) -> None:
        self.atr = atr
        self._answer = answer
        self._hook = hook
        self.log: list[str] = []

    def process(self, command: bytes) -> bytes:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer  # type: ignore[no-any-return]

    def power_on(self) -> None:
        self.log.append("on")
        if self._hook:
            raise self._hook

    def power_off(self) -> None:
        self.log.append("off")
        if self._hook:
            raise self._hook


def test_what_a_card_says_goes_through() -> None:
    card = Scripted(bytearray(b"\x61\x02"))
    assert calls.power_on(card) == calls.reset(card) == b"\x3b\x00"
    assert calls.answer(card, b"\x00\xa4") == b"\x61\x02"
    calls.power_off(card)
    assert card.log == ["on", "on", "off"]
    assert card.error is None


@pytest.mark.parametrize("wrong", [None, "text", [0x90, 0x00], bytes(65_536), ValueError("broken"), SystemExit("fatal")])
def test_a_wrong_answer_is_kept_and_answered_6f00(wrong: object) -> None:
    card = Scripted(wrong)
    assert calls.answer(card, b"\x00\xa4") == b"\x6f\x00"
    with pytest.raises((TypeError, ValueError, SystemExit)):
        raise_kept(card)


@pytest.mark.parametrize("wrong", [None, "text", bytes(34)])
def test_a_card_with_a_wrong_atr_is_mute(wrong: object) -> None:
    card = Scripted(atr=wrong)
    assert calls.power_on(card) == b""
    with pytest.raises((TypeError, ValueError), match="atr"):
        raise_kept(card)


def test_a_hook_that_fails_is_kept_and_changes_nothing() -> None:
    card = Scripted(hook=ValueError("hook"))
    assert calls.power_on(card) == b"\x3b\x00"
    calls.power_off(card)
    with pytest.raises(ValueError, match="hook"):
        raise_kept(card)
    raise_kept(card)
