"""examples/web_readers.py: what the service sends, and what a browser shows of it; docs/web-service.md has its picture.

`SCARDFACE_PICTURE=1 python -m pytest tests/examples/test_web_readers.py` takes the picture anew.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from scardface.testing import FileCard, SimulatedPCSC, VirtualCard
from tests.examples.loading import load
from tests.support.browser import CHROMIUM, Browser

uvicorn = pytest.importorskip("uvicorn", reason="fastapi and uvicorn are not installed: the web page of examples/ is not tried")
pytest.importorskip("fastapi", reason="fastapi and uvicorn are not installed: the web page of examples/ is not tried")
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "web-readers.png"


class Mute(VirtualCard):
    """Does not answer."""

    atr = b""

    def process(self, command: bytes) -> bytes:
        return b"\x6d\x00"


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("Desk Reader")
        simulated.add_reader("<b>Gate</b>")
        yield simulated


@pytest.fixture
def web(pcsc: SimulatedPCSC) -> Any:
    return load("web_readers")


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The service, by uvicorn in a thread; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, lifespan="on", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.anyio
async def test_each_listener_is_told_what_is_so_and_every_change(web: Any, pcsc: SimulatedPCSC) -> None:
    async with web.lifespan(web.app):
        response = await web.events()
        lines = response.body_iterator

        async def until(*, service: bool = True, cards: int = 0) -> Any:
            with anyio.fail_after(30):
                async for line in lines:
                    state = json.loads(line.removeprefix("data: "))
                    if state["service"] == service and sum(each["present"] for each in state["readers"]) == cards:
                        return state
            return None

        await until()
        pcsc.insert("Desk Reader", FileCard())
        assert "3B 87 01 80" in str(await until(cards=1))
        pcsc.stop_service()
        await until(service=False, cards=1)
        pcsc.start_service()
        await until(cards=1)
        pcsc.remove("Desk Reader")
        await until()
        await lines.aclose()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: no browser shows the web page of examples/")
def test_in_a_browser(web: Any, pcsc: SimulatedPCSC, tmp_path: Path) -> None:
    gate = 'document.querySelectorAll("li.present").length'
    with served(web.app) as address, Browser(tmp_path) as browser:
        tab = browser.open(address)
        shown = tab.until('document.querySelectorAll("li").length == 2')
        assert "Desk Reader" in shown, shown
        assert "<b>Gate</b>" in shown, "a reader's name is text, whatever is in it"
        pcsc.insert("Desk Reader", FileCard())
        assert "3B 87 01 80" in tab.until(f"{gate} == 1")
        if os.environ.get("SCARDFACE_PICTURE") == "1":
            PICTURE.write_bytes(tab.picture())
        pcsc.remove("Desk Reader")
        tab.until(f"{gate} == 0")
        pcsc.stop_service()
        tab.until('document.getElementById("note").textContent.includes("does not run")')
        pcsc.start_service()
        tab.until('document.querySelectorAll("li").length == 2')
        tab.close()
        pcsc.insert("<b>Gate</b>", FileCard())
        again = browser.open(address)
        again.until(f"{gate} == 1")
        again.close()
