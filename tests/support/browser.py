"""A headless Chromium, steered over pipes by the DevTools protocol: no driver, no package, no port.

Rules:

- `--remote-debugging-pipe`: JSON messages that end with a zero byte, to the browser's descriptor 3 and from its 4.
- Waiting is done in the page: `until` evaluates a promise there that a MutationObserver fulfils, so nothing is polled from here.
- The browser has a profile of its own, which goes with it; the process is ended at the end of the block.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
"""Debian's, or Ubuntu's; None: it is not installed."""
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--window-size=800,420",
    "--remote-debugging-pipe",
)
BOUND = 60.0
"""Seconds after which something that must happen in the browser has not happened."""


class Browser:
    """`with Browser(folder) as browser:`, where its profile goes into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._events: list[Any] = []

    def __enter__(self) -> Browser:
        assert CHROMIUM
        (from_here, self._write), (self._read, to_here) = os.pipe(), os.pipe()
        # Through a shell, which gives the two descriptors their numbers.
        command = f'exec "$0" "$@" 3<&{from_here} 4>&{to_here} {from_here}<&- {to_here}>&-'
        with (self._folder / "stderr.txt").open("wb") as errors:
            self._process = subprocess.Popen(
                ["bash", "-c", command, CHROMIUM, *OPTIONS, f"--user-data-dir={self._folder / 'profile'}", "about:blank"],
                pass_fds=(from_here, to_here), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
        os.close(from_here)
        os.close(to_here)
        self._buffer = b""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            if kind is None:
                self.call("Browser.close")
                self._process.wait(BOUND)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            os.close(self._write)
            os.close(self._read)

    def call(self, method: str, session: str = "", **parameters: Any) -> Any:
        """The result of a method of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer)

    def _next(self) -> Any:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended: " + (self._folder / "stderr.txt").read_text(errors="replace")[-2000:]
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def open(self, address: str) -> Tab:
        """A new tab with this page, once it has been loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable", session)
        self._events.clear()
        self.call("Page.navigate", session, url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._events.append(self._next())
        return Tab(self, target, session)


class Tab:
    """One page."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session

    def until(self, condition: str) -> str:
        """Wait for a JavaScript condition; the text of the page then, whether it is painted yet or not."""
        program = f"""new Promise((done, fail) => {{
            const look = () => {{ if ({condition}) {{ watch.disconnect(); done(document.body.textContent); }} }};
            const watch = new MutationObserver(look);
            watch.observe(document, {{ subtree: true, childList: true, characterData: true, attributes: true }});
            setTimeout(() => fail(document.body.textContent), {BOUND * 1000});
            look();
        }})"""
        found = self._browser.call("Runtime.evaluate", self._session, expression=program, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, f"{condition} never came to be so: {found['exceptionDetails']}"
        return str(found["result"]["value"])

    def picture(self) -> bytes:
        """What it looks like, as PNG."""
        return base64.b64decode(self._browser.call("Page.captureScreenshot", self._session, format="png")["data"])

    def close(self) -> None:
        """As its user closes it."""
        self._browser.call("Target.closeTarget", targetId=self._target)
