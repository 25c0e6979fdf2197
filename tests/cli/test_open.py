"""The card that is meant."""

from __future__ import annotations

import re
import sys
import threading

import pytest

from scardface import CardTimeoutError, NoReaderError
from scardface.cli import _open
from scardface.cli._open import open_card, resolve_reader
from scardface.cli._options import CardChoice
from scardface.cli._virtual import READER, virtual_pcsc
from scardface.sync import ShareMode
from scardface.testing import FileCard, SimulatedPCSC

NOW = CardChoice(None, None, 0.0, shared=False)


def test_a_reader_is_meant_by_number_or_by_a_part_of_its_name() -> None:
    with virtual_pcsc() as pcsc:
        pcsc.add_reader("Other (1)")
        assert resolve_reader(None, 5.0, wait=False) == (None, 5.0)
        assert resolve_reader("1", None, wait=False) == ("Other (1)", None)
        assert resolve_reader("other (1", 0.0, wait=False) == ("Other (1)", 0.0)
        with open_card(NOW._replace(reader="VIRTUAL")) as card:
            assert card.reader == READER
        with pytest.raises(NoReaderError, match=r"there is no reader 2: there are 0 'Virtual Reader 0', 1 'Other \(1\)'"):
            resolve_reader("2", None, wait=False)


def test_no_reader_at_all_is_told_at_once() -> None:
    with SimulatedPCSC(), pytest.raises(NoReaderError, match="--wait-for-reader waits for one"):
        open_card(CardChoice(None, None, None, shared=False))


@pytest.mark.parametrize(("text", "name"), [(None, "A"), ("A", "A"), ("aa", "xAAx"), ("1", "B")])
def test_a_reader_is_waited_for(text: str | None, name: str) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.stop_service()
        later = threading.Thread(target=_plug, args=(pcsc, "zzz" if text in ("1", "aa") else None, name))
        later.start()
        with open_card(CardChoice(text, None, 30.0, shared=False, wait_for_reader=True)) as card:
            assert card.reader == name
        later.join()


def _plug(pcsc: SimulatedPCSC, first: str | None, name: str) -> None:
    pcsc.start_service()
    if first is not None:
        pcsc.add_reader(first)
    pcsc.add_reader(name)
    pcsc.insert(name, FileCard())


@pytest.mark.slow
@pytest.mark.parametrize("text", [None, "A"])
def test_a_service_that_never_came_is_told_of(text: str | None) -> None:
    """Not a reader that is missing: nobody knows of readers then."""
    cure = {"win32": "net start", "darwin": "plug a reader in"}.get(sys.platform, "install pcscd")
    with SimulatedPCSC() as pcsc:
        pcsc.stop_service()
        with pytest.raises(CardTimeoutError, match=rf"no PC/SC service within 0\.3 s: .*{cure}"):
            resolve_reader(text, 0.3, wait=True)
        pcsc.start_service()
        with pytest.raises(CardTimeoutError, match=r"no reader.* within 0\.3 s"):
            resolve_reader(text, 0.3, wait=True)


@pytest.mark.slow
def test_a_wait_for_a_reader_has_an_end() -> None:
    with SimulatedPCSC() as pcsc:  # a second has time for a query on busy cores
        with pytest.raises(CardTimeoutError, match=r"no matching card within 1 s; seen: no reader"):
            open_card(CardChoice(None, None, 1, shared=False, wait_for_reader=True))
        pcsc.add_reader("A")
        with pytest.raises(CardTimeoutError, match=r"no reader that matches within 1 s"):
            open_card(CardChoice("B", None, 1, shared=False, wait_for_reader=True))
        with pytest.raises(CardTimeoutError):  # of what is left
            open_card(CardChoice("A", None, 0.05, shared=False, wait_for_reader=True))


def test_others_are_let_in_if_that_is_wished() -> None:
    with virtual_pcsc():
        with open_card(NOW._replace(shared=True)) as card:
            assert card.share is ShareMode.SHARED
        with open_card(NOW) as card:
            assert card.share is ShareMode.EXCLUSIVE


class Screen:
    """A terminal for standard error."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...


@pytest.mark.parametrize(
    ("atr", "words"), [(None, "waiting for a card;"), (re.compile(rb"^\x3f"), "waiting for a card that matches;")]
)
def test_a_wait_is_told_of_on_a_terminal(atr: re.Pattern[bytes] | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(_open, "MOMENT", 0.0)
    with virtual_pcsc() as pcsc:
        if atr is None:
            pcsc.remove(0)
        with pytest.raises(CardTimeoutError):
            open_card(CardChoice(None, atr, 0.2, shared=False))
    assert words in screen.text


def test_it_is_not_told_of_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_open, "MOMENT", 0.0)
    with virtual_pcsc() as pcsc:
        pcsc.remove(0)
        with pytest.raises(CardTimeoutError):
            open_card(NOW._replace(timeout=0.1))
    assert capsys.readouterr().err == ""
