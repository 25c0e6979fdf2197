"""scardface._lazy_names: loading and forking, which wait for each other. (What is loaded by which name: test_init.py.)"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from scardface import _lazy_names
from scardface._lazy_names import load
from tests.support.waits import wait_until

PATIENCE = 60.0


class Gate(ModuleType):
    """What the module that is being loaded waits for; itself a module, which that one imports."""

    def __init__(self) -> None:
        super().__init__("scardface_test_gate")
        self.inside, self.leave = threading.Event(), threading.Event()


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Of the module scardface_test_slow, whose load ends when the gate is opened."""
    gate = Gate()
    (tmp_path / "scardface_test_slow.py").write_text(
        "from scardface_test_gate import inside, leave\ninside.set()\nassert leave.wait(60)\nNAME = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, gate.__name__, gate)
    monkeypatch.delitem(sys.modules, "scardface_test_slow", raising=False)
    return gate


def begun(found: list[object]) -> threading.Thread:
    """A thread that loads the slow module."""
    thread = threading.Thread(target=lambda: found.append(load("scardface_test_slow", "NAME")), daemon=True)
    thread.start()
    return thread


def test_a_fork_waits_for_a_load_of_another_thread(gate: Gate) -> None:
    found: list[object] = []
    loader = begun(found)
    assert gate.inside.wait(PATIENCE)
    forked: list[object] = []

    def fork() -> None:
        _lazy_names._before()
        forked.append(None)
        _lazy_names._in_parent()

    forker = threading.Thread(target=fork, daemon=True)
    forker.start()
    wait_until(lambda: _lazy_names._forks)
    assert not forked
    gate.leave.set()
    forker.join(PATIENCE)
    loader.join(PATIENCE)
    assert found == [1]
    assert forked
    assert not _lazy_names._loading
    assert not _lazy_names._forks


def test_a_child_has_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lazy_names, "_loading", {1: 1})
    monkeypatch.setattr(_lazy_names, "_forks", [1])
    _lazy_names._in_child()
    assert not _lazy_names._loading
    assert not _lazy_names._forks


def test_it_does_not_wait_for_its_own_thread_nor_for_ever(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_lazy_names._loading, threading.get_ident(), 1)
    _lazy_names._before()
    assert load("threading", "get_ident") is threading.get_ident, "a load in the thread that forks, by another hook"
    assert _lazy_names._loading == {threading.get_ident(): 1}
    _lazy_names._in_parent()
    monkeypatch.setattr(_lazy_names, "MAX_DELAY", 0.05)
    loader = begun([])
    assert gate.inside.wait(PATIENCE)
    _lazy_names._before()
    assert loader.is_alive()
    _lazy_names._in_parent()
    gate.leave.set()
    loader.join(PATIENCE)


def test_a_load_waits_while_another_thread_forks(gate: Gate) -> None:
    gate.leave.set()
    found: list[object] = []
    _lazy_names._before()
    try:
        loader = begun(found)
        loader.join(0.2)
        assert loader.is_alive()
        assert not gate.inside.is_set()
    finally:
        _lazy_names._in_parent()
    loader.join(PATIENCE)
    assert found == [1]
    assert not _lazy_names._loading


def test_a_load_that_fails_is_over() -> None:
    with pytest.raises(ModuleNotFoundError):
        load("scardface_test_nowhere", "NAME")
    with pytest.raises(AttributeError):
        load("scardface.errors", "NAME")
    assert not _lazy_names._loading
