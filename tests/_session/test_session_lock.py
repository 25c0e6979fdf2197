"""One call at a time, whatever interrupts it, and the order to close."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from scardface import Disposition
from scardface._session import session_lock
from scardface._session.card_errors import SessionClosedError
from scardface._session.session_lock import SessionLock
from tests.support.waits import wait_until


class Owner:
    """What a session tells its lock, noted."""

    def __init__(self) -> None:
        self.did: list[Any] = []
        self.out_of_step = False
        self.lock = SessionLock(lambda: None, self.leave, self.disconnect, lambda: self.did.append("freed"))

    def leave(self) -> None:
        self.out_of_step = False

    def disconnect(self, disposition: Disposition | None) -> None:
        self.did.append(disposition)

    def work(self) -> int:
        self.out_of_step = True
        return 42

    @property
    def is_free(self) -> bool:
        return not (self.lock._inside or self.out_of_step or self.lock._lock._is_owned())  # type: ignore[attr-defined]


def test_a_call_goes_through_and_a_closed_one_does_not() -> None:
    owner = Owner()
    assert owner.lock.call(owner.work) == 42
    assert owner.is_free
    owner.lock.close(Disposition.LEAVE)
    owner.lock.close(Disposition.RESET)
    assert owner.did == [Disposition.LEAVE, "freed"]
    with pytest.raises(SessionClosedError):
        owner.lock.call(owner.work)
    assert owner.lock.closed


def test_from_inside_a_call_nothing_is_called_and_a_close_is_an_order() -> None:
    """As in a signal handler that interrupted the call; of a callback's close the face is told."""
    owner = Owner()

    def inside() -> None:
        with pytest.raises(RuntimeError, match="from inside"):
            owner.lock.call(owner.work)
        with pytest.raises(RuntimeError, match="from inside"):
            owner.lock.refuse_inside()
        owner.lock.refuse_in_callback()
        owner.lock.close(Disposition.RESET)
        assert owner.did == []
        with pytest.raises(RuntimeError, match="callback"):
            owner.lock.call_back(owner.lock.refuse_in_callback)
        owner.did.append("called")

    owner.lock.call(inside)
    assert owner.did == ["called", Disposition.RESET, "freed"]
    assert owner.is_free


def test_another_thread_waits_and_is_not_refused() -> None:
    owner, inside, go_on = Owner(), threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        assert go_on.wait(30)

    first = threading.Thread(target=owner.lock.call, args=(wait,))
    first.start()
    assert inside.wait(30)
    owner.lock.refuse_inside()
    closer = threading.Thread(target=owner.lock.close)
    closer.start()
    wait_until(lambda: owner.lock._close_order is not None)
    assert owner.did == []
    go_on.set()
    first.join(30)
    closer.join(30)
    assert owner.did == [None, "freed"]


class Interrupted(Exception):
    """What a signal handler raises."""


def interrupted_everywhere(do: Callable[[Owner], object]) -> list[tuple[int, Owner, bool]]:
    """`do`, interrupted once wherever a function begins or returns, where Python looks for signals: which, of what, did it come?"""
    outcomes = []
    place = 0
    while True:
        owner, left = Owner(), place
        fired = False

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal left, fired
            if frame.f_code.co_filename != session_lock.__file__ and frame.f_code.co_name not in ("leave", "disconnect", "work"):
                return None
            frame.f_trace_lines = False
            if event in ("call", "return") and not fired:
                if not left:
                    fired = True
                    raise Interrupted
                left -= 1
            return trace

        came = False
        sys.settrace(trace)
        try:
            do(owner)
        except Interrupted:
            came = True
        finally:
            sys.settrace(None)
        if not fired:
            return outcomes
        outcomes.append((place, owner, came))
        place += 1


def test_an_interrupt_at_any_place_of_a_call_leaves_nothing_undone() -> None:
    outcomes = interrupted_everywhere(lambda owner: owner.lock.call(owner.work))
    assert len(outcomes) > 5, "the tracing sees nothing"
    for place, owner, came in outcomes:
        assert owner.is_free, place
        assert came, place
        assert owner.lock.call(owner.work) == 42


def test_an_interrupt_at_any_place_of_a_close_leaves_the_card_free_or_open() -> None:
    """Open only where nothing had begun: then the face closes once more."""
    outcomes = interrupted_everywhere(lambda owner: owner.lock.close())
    assert len(outcomes) > 3, "the tracing sees nothing"
    closed = 0
    for place, owner, came in outcomes:
        assert came, place
        assert owner.did in ([], [None, "freed"], [None, None, "freed"], [None, "freed", None, "freed"]), place
        closed += owner.lock.closed
        owner.lock.close()
        assert owner.lock.closed
        assert "freed" in owner.did
    assert closed


def test_a_backend_that_fails_at_the_close_frees_all_the_same() -> None:
    owner = Owner()

    def disconnect(disposition: Disposition | None) -> None:
        raise OSError("a backend's own")

    owner.lock._disconnect = disconnect
    with pytest.raises(OSError, match="own"):
        owner.lock.close()
    assert owner.did == ["freed"]
    assert owner.lock.closed
