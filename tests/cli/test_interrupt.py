"""Ctrl-C while PC/SC holds the main thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scardface.cli import _interrupt
from scardface.cli._interrupt import called_on_exit, exit_on_interrupt, exit_soon_after_interrupt
from scardface.testing import FileCard
from tests.support.command_line import BOUND, ROOT, SELECT, Terminal, piped
from tests.support.freezing import freeze
from tests.support.waits import threads_named

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd


class Freezes(FileCard):
    """Has the daemon stopped by a signal when it is asked for its file, and so does never answer."""

    def __init__(self, pcscd: PrivatePcscd) -> None:
        super().__init__()
        self._pid = pcscd.pid
        self.frozen = threading.Event()

    def process(self, command: bytes) -> bytes:
        if command[1] == 0xB0:
            freeze(self._pid)
            self.frozen.set()
        return super().process(command)


@pytest.mark.parametrize("command", ["send", "record"])
def test_a_command_that_a_frozen_service_does_not_answer(pcscd: PrivatePcscd, tmp_path: Path, command: str) -> None:
    """What was said up to there is shown, and recorded."""
    cassette = tmp_path / "a.cassette"
    card = Freezes(pcscd)
    pcscd.insert(0, card)
    pcscd.wait_for_card(0)
    try:
        with piped(command, *([str(cassette)] if command == "record" else []), SELECT, "00B0810000") as process:
            assert card.frozen.wait(BOUND)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=BOUND)
    finally:
        pcscd.kill()
    assert (process.returncode, err) == (130, "")
    assert "< 9000 success" in out
    assert command == "send" or "00A40400" in cassette.read_text()


def test_the_same_in_the_shell(pcscd: PrivatePcscd, terminal: Callable[..., Terminal]) -> None:
    card = Freezes(pcscd)
    pcscd.insert(0, card)
    shown = terminal("shell")
    for line in (SELECT, "00B0810000"):
        shown.read_until("'help' tells" if line == SELECT else "< 9000 success")
        shown.read_until(">")
        shown.type(f"{line}\r")
    assert card.frozen.wait(BOUND)
    try:
        shown.interrupt()
        assert shown.end() == 130
    finally:
        pcscd.kill()


def test_a_frozen_service_does_not_hold_up_the_close_either(pcscd: PrivatePcscd, terminal: Callable[..., Terminal]) -> None:
    """Ctrl-C at the prompt is heard there; what is left to do is to close the card."""
    pcscd.insert(0, FileCard())
    shown = terminal("shell")
    shown.read_until("'help' tells")
    shown.read_until(">")
    freeze(pcscd.pid)
    try:
        shown.type("\x03")
        assert shown.end() == 130
    finally:
        pcscd.kill()


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the process would have ended."""
    times: list[int] = []
    monkeypatch.setattr(_interrupt, "HANDLER_GRACE", 0.05)
    monkeypatch.setattr(_interrupt, "_exit_now", lambda: times.append(1))
    return times


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "hangs"])
def test_after_an_interrupt_a_command_has_a_time_to_end(left: list[int], monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    """Who ends in it is left alone, and who does not is ended."""
    monkeypatch.setattr(_interrupt, "CLOSE_GRACE", 0.05 if not ends else 30)
    with _interrupt.running_command():
        with pytest.raises(KeyboardInterrupt), exit_soon_after_interrupt():
            raise KeyboardInterrupt
        (thread,) = threads_named("scardface-interrupt")
        if not ends:
            thread.join(30)
    thread.join(30)
    assert not thread.is_alive()
    assert left == ([] if ends else [1])


@pytest.mark.slow
@pytest.mark.usefixtures("no_leaks")
def test_who_hears_is_left_alone(left: list[int]) -> None:
    before = signal.set_wakeup_fd(-1)
    for _ in range(3):
        with exit_on_interrupt():
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            threading.Event().wait(0.2)
    assert signal.set_wakeup_fd(before) == -1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert left == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no others")
def test_other_signals_are_none_of_its_business(left: list[int]) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with exit_on_interrupt():
            signal.raise_signal(signal.SIGUSR1)
            threading.Event().wait(0.2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert left == []


def test_a_handler_of_somebody_elses_stays(left: list[int]) -> None:
    heeded: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heeded.append(number))
    try:
        with exit_on_interrupt():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (heeded, left) == ([signal.SIGINT], [])


def test_in_another_thread_nothing_is_changed() -> None:
    seen: list[int] = []

    def run() -> None:
        with exit_on_interrupt():
            seen.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [1]


UNNOTICED = """
import signal, sys, threading, time
import anyio
from pathlib import Path
from scardface.cli._interrupt import run_loop

def interrupt():
    # Taken by another thread, a signal wakes the main thread no more than one that comes just before it goes to sleep.
    state = Path(f"/proc/self/task/{threading.main_thread().native_id}/stat")
    while state.read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.001)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

async def main():
    threading.Thread(target=interrupt, daemon=True).start()
    await anyio.sleep_forever()

try:
    run_loop(main)
except KeyboardInterrupt:
    print("obeyed")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells whether a thread sleeps")
def test_ctrl_c_as_the_loop_goes_to_sleep() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", UNNOTICED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BOUND, check=False)
    assert (done.stdout, done.stderr) == ("obeyed\n", "")


EARLY = """
import asyncio, os, signal
import anyio
from scardface.cli._interrupt import run_loop

def run_late(*args, run=anyio.run):
    os.kill(os.getpid(), signal.SIGINT)
    print("the loop is made")
    return run(*args)

async def main(text):
    print(text)
    await anyio.sleep(60)

anyio.run = run_late
try:
    run_loop(main, "a step of the command")
except (KeyboardInterrupt, asyncio.CancelledError):
    print("interrupted")
    print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no mask of signals")
def test_ctrl_c_while_the_loop_is_made() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY], cwd=ROOT, capture_output=True, text=True, timeout=BOUND, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the loop is made\ninterrupted\nset()\n", "")


def test_what_is_to_be_kept_is_kept_for_the_length_of_a_block() -> None:
    with called_on_exit(test_in_another_thread_nothing_is_changed):
        assert len(_interrupt._exit_callbacks) == 1
    assert _interrupt._exit_callbacks == []


def test_the_end(tmp_path: Path) -> None:
    """In a process of its own, which is what ends."""
    program = (
        "from scardface.cli import _interrupt\n"
        "def fail(): raise ZeroDivisionError\n"
        f"with _interrupt.called_on_exit(fail), _interrupt.called_on_exit(open({str(tmp_path / 'kept')!r}, 'w').close):\n"
        "    print('shown', end='')\n"
        "    _interrupt._exit_now()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2]
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "shown", "")
    assert (tmp_path / "kept").exists()
