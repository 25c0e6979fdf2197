"""The cassette of one pytest test. In test runs of their own: tests/test_pytest_plugin.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from scardface.replay._card_cassette import CardCassette, path_of
from scardface.sync import SCard
from scardface.testing import FileCard, SimulatedPCSC

SELECT = bytes.fromhex("00A404000AF0534341524446414345")


def test_where_it_is() -> None:
    module = Path("tests", "test_door.py")
    assert path_of(module, "test_opens") == Path("tests", "cassettes", "test_door", "test_opens.cassette")
    assert path_of(module, "TestDoor.test_opens[a/b c]").name == "TestDoor.test_opens_a_b_c_.cassette"


@pytest.mark.parametrize("mode", ["once", "new", "all"])
def test_it_is_recorded_in_a_folder_that_is_made(tmp_path: Path, mode: str) -> None:
    cassette = CardCassette(tmp_path / "cassettes" / "a.cassette", mode)  # type: ignore[arg-type]
    assert not cassette.replays
    cassette.save()
    assert not list(tmp_path.iterdir()), "nothing was recorded"
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", FileCard())
        with SCard(timeout=5) as card:
            assert cassette(card).send(SELECT).is_successful()
            with pytest.raises(RuntimeError, match="called once"):
                cassette(card)
    cassette.save()
    assert "00A40400 F0534341524446414345" in cassette.path.read_text("utf-8")
    assert CardCassette(cassette.path, "once").replays


def test_it_only_plays(tmp_path: Path) -> None:
    assert CardCassette(tmp_path / "a.cassette", "none").replays
