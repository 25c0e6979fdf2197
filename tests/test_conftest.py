"""The fixtures of tests/conftest.py, where a fixture that never fails would go unnoticed."""

from __future__ import annotations

import _thread
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from tests.support import census
from tests.support.loop_watch import PACKAGE

CONFTEST = """
from tests.conftest import _loop_stays_free, _nothing_stays, anyio_backend, no_leaks
"""

INI = """
[pytest]
asyncio_default_fixture_loop_scope = function
asyncio_mode = strict
filterwarnings = error
"""

BLOCKING = '''
import time

import anyio
import pytest


def ours(source, room="_blocking.py"):
    """Functions compiled as if they stood in a room of scardface."""
    names = {"time": time, "anyio": anyio}
    exec(compile(source, PACKAGE + "/" + room, "exec"), names)
    return names


SLEEPS = """
def block(found):
    while not found():
        time.sleep(0.2)

async def call(found):
    await anyio.sleep(0)
    block(found)
"""

WAITS = """
async def call():
    for _ in range(300):
        await anyio.sleep(0.001)

async def idle():
    await anyio.sleep(0.3)
"""


@pytest.fixture
def found(_loop_stays_free):
    end = time.monotonic() + 20
    return lambda: _loop_stays_free.found or time.monotonic() > end


@pytest.mark.anyio
async def test_blocked(found):
    await ours(SLEEPS)["call"](found)


@pytest.mark.asyncio
async def test_blocked_under_pytest_asyncio(found):
    await ours(SLEEPS)["call"](found)


@pytest.mark.anyio
async def test_free():
    names = ours(WAITS)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(names["call"])
        group.start_soon(names["idle"])


@pytest.mark.anyio
async def test_free_when_the_test_itself_blocks():
    time.sleep(0.2)


@pytest.mark.anyio
async def test_free_when_a_helper_for_tests_blocks():
    helper = ours("def help(sleep): sleep()", "testing/_helper.py")["help"]
    helper(ours("def sleep(): time.sleep(0.2)")["sleep"])


def test_free_without_a_loop():
    time.sleep(0.2)
'''


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """A test run of its own with this project's fixtures."""
    pytester.makeini(INI)
    pytester.makeconftest(CONFTEST)
    return pytester


def test_a_blocked_loop_fails_its_test_and_no_other(inner: pytest.Pytester) -> None:
    inner.makepyfile(f"PACKAGE = {str(PACKAGE)!r}\n" + BLOCKING)
    result = inner.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:faulthandler")
    # The checking fixture's finding comes after the test proper, which passes: an error beside a pass. Each of the blocked
    # ones runs on three backends, but the one under pytest-asyncio.
    blocked, free = 3 + 1, 3 * 3 + 1
    result.assert_outcomes(passed=blocked + free, errors=blocked)
    assert result.stdout.str().count("code of scardface blocked the event loop") >= blocked
    result.stdout.fnmatch_lines(["*_blocking.py:* in block*"])


LEAKING = """
import os
import threading
import pytest

end = threading.Event()
kept = []
simulations = []

def test_thread():
    threading.Thread(target=end.wait, name="left behind").start()

def test_descriptor():
    kept.append(os.open(os.devnull, os.O_RDONLY))

def test_leaves_soon():
    threading.Timer(0.2, lambda: None).start()

def test_context(no_leaks):
    from scardface.testing import SimulatedPCSC

    pcsc = SimulatedPCSC()
    simulations.append(pcsc)  # it is alive when the census is taken
    kept.append(pcsc.establish())

@pytest.mark.anyio
async def test_loop():
    import anyio
    await anyio.to_thread.run_sync(lambda: None)

def test_tidy_up():
    end.set()
    for each in kept:
        os.close(each) if isinstance(each, int) else each.release()
"""


def test_leaks_fail_their_test(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "BOUND", 1.0)
    inner.makepyfile(LEAKING)
    result = inner.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:faulthandler")
    result.assert_outcomes(passed=8, errors=3)
    result.stdout.fnmatch_lines(
        ["*still there*threads*left behind*", "*still there*descriptors*/dev/null*", "*still there*0 of *SimulatedPCSC*"]
    )


def test_census_sees_a_thread_that_python_does_not_know() -> None:
    before = census.take()
    begun, end = threading.Event(), threading.Event()
    numbers: list[int] = []
    _thread.start_new_thread(lambda: (numbers.append(_thread.get_native_id()), begun.set(), end.wait()), ())
    assert begun.wait(30)
    now = census.take()
    end.set()
    assert str(numbers[0]) in set(now.tasks) - set(before.tasks)
    stayed = tuple(task for task in before.tasks if task in now.tasks)  # another test's last thread may just have ended
    assert now.exceeds(before._replace(tasks=stayed))


def test_census_waits_for_a_thread_that_python_has_heard_of_once() -> None:
    """It logged something, for instance: Python 3.11 lists it for ever, and it cannot be joined."""
    before, heard, end = census.take(), threading.Event(), threading.Event()

    def run() -> None:
        threading.current_thread()
        heard.set()
        end.wait()

    _thread.start_new_thread(run, ())
    assert heard.wait(30)
    assert set(census.take().tasks) - set(before.tasks)
    end.set()
    census.settle(before)


def test_census_sees_a_socket_and_its_end() -> None:
    before = census.take()
    with socket.socket():
        now = census.take()
        assert now.exceeds(before)
        assert "socket" in now.difference(before)
    census.settle(before)


@pytest.mark.anyio
async def test_every_backend_is_run(anyio_backend: Any, request: pytest.FixtureRequest) -> None:
    import sniffio

    assert sniffio.current_async_library() == anyio_backend[0]
    if anyio_backend[1].get("use_uvloop"):
        import asyncio

        assert "uvloop" in type(asyncio.get_running_loop()).__module__


IGNORED = """
import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
import tests.conftest
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_a_caller_who_ignores_ctrl_c_keeps_it_from_nobody() -> None:
    """As a shell does for what it starts in the background: tests press Ctrl-C, in this process and in children."""
    done = subprocess.run([sys.executable, "-c", IGNORED], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
