"""PINs: asked for without echo, once; never without a terminal."""

from __future__ import annotations

import getpass
import warnings

import click
import pytest

from scardface import C_APDU
from scardface.cli import _pin


def test_it_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["1234", "5678"])
    monkeypatch.setattr(getpass, "getpass", lambda prompt: next(answers))
    assert (_pin.ask(), _pin.ask()) == (b"1234", b"1234")
    _pin.forget()
    assert _pin.ask() == b"5678"


@pytest.mark.parametrize("typed", ["", "12\u00b3", "12\n"])
def test_it_is_ascii(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getpass", lambda prompt: typed)
    with pytest.raises(click.UsageError, match="characters of ASCII"):
        _pin.ask()


def test_without_a_terminal_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fall_back(prompt: str) -> str:
        warnings.warn("it would be shown", getpass.GetPassWarning, stacklevel=2)
        return "1234"

    monkeypatch.setattr(getpass, "getpass", fall_back)
    with pytest.raises(click.UsageError, match="no terminal"):
        _pin.ask()


@pytest.mark.parametrize(("command", "warned"), [("0020000104 31323334", True), ("00200001", False), ("00A4000002 3F00", False)])
def test_a_pin_on_the_command_line_is_warned_of(command: str, warned: bool, capsys: pytest.CaptureFixture[str]) -> None:
    _pin.warn_of(C_APDU.fromhex(command))
    told = capsys.readouterr().err
    assert ("--pin-prompt" in told) is warned
    assert "1234" not in told
    assert "31 32" not in told
