"""The kiosk of examples/kiosk.py, which docs/kiosk.md quotes, through all that a kiosk lives through."""

from __future__ import annotations

import importlib.util
import random
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from scardface import ReaderMonitor, ReaderRemoved
from scardface.testing import FileCard, SimulatedPCSC, VirtualCard
from tests.support.waits import until

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "examples" / "kiosk.py"
READERS = ("A", "B")

pytestmark = pytest.mark.anyio


class Foreign(VirtualCard):
    """A card that speaks T=14 only, such as those of pay television."""

    atr = bytes.fromhex("3B8E0E" + "00" * 14)

    def process(self, command: bytes) -> bytes:
        return b"\x6d\x00"


def loaded(said: list[str]) -> ModuleType:
    """The example as a module, whose words go to `said`."""
    spec = importlib.util.spec_from_file_location("kiosk", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__["print"] = lambda *words: said.append(" ".join(map(str, words)))
    spec.loader.exec_module(module)
    return module


def test_the_page_quotes_it() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "kiosk.md").read_text(encoding="utf-8"), re.DOTALL)
    quoted = [block for block in blocks if "def kiosk(" in block]
    assert len(quoted) == 1
    assert SOURCE.read_text(encoding="utf-8").partition('"""\n\n')[2] == quoted[0]


@pytest.mark.slow
async def test_it_goes_on_through_restarts_unplugged_readers_pulls_and_a_foreign_card(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    dice = random.Random(15)
    with SimulatedPCSC() as pcsc:
        for name in READERS:
            pcsc.add_reader(name)

        async def served(*readers: str, between: Callable[[], Any] = lambda: None) -> None:
            """A new card in each of these readers is welcomed."""
            for name in readers:
                if name in pcsc.cards:
                    pcsc.remove(name)
            said.clear()
            for name in readers:
                pcsc.insert(name, FileCard())
            await until(lambda: all(f"{name} welcome" in said for name in readers), 30)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loaded(said).kiosk, READERS)
            for _ in range(3):
                await served(*READERS)
                pcsc.stop_service()
                await until(lambda: any("PC/SC service" in line for line in said), 30)
                pcsc.start_service()
            for _ in range(3):
                await served(*READERS)
                pcsc.remove_reader("A")
                pcsc.add_reader("A")
            pcsc.insert("A", Foreign())
            await served("B")
            await served(*READERS)
            for _ in range(20):
                name = dice.choice(READERS)
                if name in pcsc.cards:
                    pcsc.remove(name)
                pcsc.insert(name, FileCard())
                await anyio.sleep(dice.random() * 0.02)
            await served(*READERS)
            tasks.cancel_scope.cancel()


async def test_neither_a_service_nor_a_reader_has_to_be_there_at_the_start() -> None:
    said: list[str] = []
    with SimulatedPCSC() as pcsc:
        pcsc.stop_service()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loaded(said).kiosk)
            await until(lambda: any("no PC/SC service runs" in line for line in said), 30)
            pcsc.start_service()
            for name in READERS:
                pcsc.add_reader(name)
                pcsc.insert(name, FileCard())
                await until(lambda name=name: f"{name} welcome" in said, 30)
            async with ReaderMonitor() as monitor:
                pcsc.remove_reader("A")
                async for event in monitor:  # what is plugged in before somebody has looked is not seen to be another one
                    if isinstance(event, ReaderRemoved):
                        break
            pcsc.add_reader("A")
            pcsc.insert("A", FileCard())
            await until(lambda: said.count("A welcome") == 2, 30)
            tasks.cancel_scope.cancel()
        assert said.count("B welcome") == 1, "a card is served once while it is in"


async def test_it_serves_the_readers_it_is_given_alone() -> None:
    said: list[str] = []
    with SimulatedPCSC() as pcsc:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loaded(said).kiosk, ["B"])
            for name in READERS:
                pcsc.add_reader(name)
                pcsc.insert(name, FileCard())
            await until(lambda: "B welcome" in said, 30)
            tasks.cancel_scope.cancel()
    assert said == ["B welcome"]
