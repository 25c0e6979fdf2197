"""tests.support.waits: what is told of a wait that does not end."""

from __future__ import annotations

import threading
import weakref

import pytest

from scardface.sync import ReaderMonitor
from scardface.testing import SimulatedPCSC
from tests.support.waits import is_at_rest, throw_away, until, wait_until


def test_it_tells_where_the_threads_are_and_who_waits(capsys: pytest.CaptureFixture[str]) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        with ReaderMonitor() as monitor:
            next(monitor)
            wait_until(is_at_rest)
            with pytest.raises(AssertionError, match="it never came"):
                wait_until(lambda: False, 0)
    told = capsys.readouterr().out
    assert "test_it_tells_where_the_threads_are" in told
    assert "in _wait_for_change" in told
    assert "_listeners: {<scardface" in told


@pytest.mark.anyio
async def test_in_an_event_loop_too(capsys: pytest.CaptureFixture[str]) -> None:
    await until(lambda: True, 0)
    with pytest.raises(TimeoutError, match="it never came"):
        await until(lambda: False, 0)
    assert "test_in_an_event_loop_too" in capsys.readouterr().out


def test_what_another_thread_holds_for_a_moment_is_gone_in_the_end() -> None:
    class Thing:
        pass

    kept, looked = [Thing()], threading.Event()
    left = weakref.ref(kept[0])
    thread = threading.Thread(target=lambda thing: looked.wait(), args=(kept[0],))
    thread.start()

    def gone() -> bool:
        looked.set()
        return left() is None

    throw_away(kept, gone)
    assert left() is None
    thread.join()
