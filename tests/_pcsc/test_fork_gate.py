"""A fork and the calls of PC/SC in other threads: who waits for whom, and for how long."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from scardface._pcsc import fork_gate
from scardface._pcsc.fork_gate import enter, leave

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")


@pytest.fixture(autouse=True)
def _open_again() -> Iterator[None]:
    yield
    assert fork_gate._calls == {}
    assert fork_gate._forks == []


class Caller:
    """A thread in a call of PC/SC until `end`."""

    def __init__(self, *, brief: bool) -> None:
        self._brief = brief
        self._end = threading.Event()
        self.inside = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        enter(brief=self._brief)
        try:
            self.inside.set()
            self._end.wait(30)
        finally:
            leave()

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def forking() -> threading.Thread:
    """A thread that forks, as far as the gate is concerned, and reports when it may."""

    def run() -> None:
        fork_gate._before()
        fork_gate._in_parent()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("brief", [True, False], ids=["a brief call", "a call that begins"])
def test_what_holds_a_lock_ends_first(brief: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_gate, "_START_TIME", 0 if brief else 30)
    monkeypatch.setattr(fork_gate, "MAX_DELAY", 30)
    caller = Caller(brief=brief)
    assert caller.inside.wait(10)
    fork = forking()
    fork.join(0.05)
    assert fork.is_alive()
    caller.end()
    fork.join(10)
    assert not fork.is_alive()


def test_a_call_that_blocks_is_let_past_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_gate, "MAX_DELAY", 30)
    caller = Caller(brief=False)
    assert caller.inside.wait(10)
    forking().join(10)
    caller.end()


def test_a_call_waits_while_a_thread_forks() -> None:
    fork_gate._before()
    caller = Caller(brief=True)
    assert not caller.inside.wait(0.05)
    fork_gate._in_parent()
    assert caller.inside.wait(10)
    caller.end()


def test_a_frozen_service_holds_up_no_fork_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_gate, "MAX_DELAY", 0.05)
    caller = Caller(brief=True)
    assert caller.inside.wait(10)
    forking().join(10)
    caller.end()


def test_who_forks_in_the_middle_of_its_own_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler does, and may call PC/SC there, too."""
    monkeypatch.setattr(fork_gate, "MAX_DELAY", 1000)
    enter(brief=True)
    fork_gate._before()
    enter(brief=True)
    leave()
    fork_gate._in_parent()
    leave()


def test_several_fork_at_once() -> None:
    forks = [forking() for _ in range(20)]
    for fork in forks:
        fork.join(10)
        assert not fork.is_alive()


CHILD = """
import os, threading
from scardface._pcsc import fork_gate

inside = threading.Event()
leave = threading.Event()

def call():
    fork_gate.enter(brief=False)
    inside.set()
    leave.wait(20)
    fork_gate.leave()

threads = [threading.Thread(target=call)]
threads[0].start()
inside.wait()
child = os.fork()
if not child:
    fork_gate.enter(brief=True)  # nobody else is here
    os._exit(len(fork_gate._calls))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), fork_gate._forks)
leave.set()
threads[0].join()
"""


def test_a_child_is_alone() -> None:
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", CHILD], capture_output=True, text=True, timeout=20, check=False)
    assert said.stdout == "1 []\n", said
