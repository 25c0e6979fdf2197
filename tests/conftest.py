"""The fixtures that all tests share.

- `anyio_backend`: every test marked `anyio` runs on asyncio, on asyncio under uvloop where that is installed, and on trio; with the
  real daemon on one of them (see tests/support/faces.py).
- `scard`: pyscard's binding, for tests that compare what it has from PC/SC's headers.
- `pcscd`: the real PC/SC daemon of this test run, with four virtual readers, running and empty when the test begins.
- `foreign`: another program that uses the same daemon.
- `no_leaks`: fails the test if it leaves a context of a simulated PC/SC open.
- Always on: a test fails if threads or file descriptors are left when everything else of it is torn down (see
  tests/support/census.py), and an async test if code of scardface blocks its event loop (see tests/support/loop_watch.py).
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import hypothesis
import hypothesis.strategies
import pytest

from tests.support import census, measuring
from tests.support.faces import BACKENDS, loops_and_faces
from tests.support.foreign import Foreign, running
from tests.support.loop_watch import LoopWatch
from tests.support.quick import is_left_out, leave_out
from tests.support.required import Missed, told_in_one_line, without_pcscd

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts tests in the background may ignore it; they do not

if sys.dont_write_bytecode:  # compile the tests once, and the package once for hundreds of child processes, out of everybody's way
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

hypothesis.settings.register_profile("scardface", deadline=None)  # how long an example takes is the machine's
hypothesis.settings.load_profile("scardface")

READERS = 4
"""How many readers the private pcscd has."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option --quick."""
    parser.addoption("--quick", action="store_true", help="leave out what is slow, or needs a PC/SC daemon or processes of its own")


def pytest_report_header() -> str:
    """The event loops of this run: a missing one is seen."""
    return f"event loops: {', '.join(BACKENDS)}" + ("" if "uvloop" in BACKENDS else "; uvloop is not installed")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What --quick does not even read."""
    return True if config.getoption("--quick", default=False) and is_left_out(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What --quick leaves out."""
    if config.getoption("--quick", default=False):
        leave_out(config, items)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Before the workers are started."""
    measuring.erase_nothing(session.config)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The event loops and faces that a test is run with."""
    mark = loops_and_faces(metafunc)
    if mark is not None:
        metafunc.definition.add_marker(mark)


@hypothesis.settings(max_examples=1, derandomize=True, database=None)
@hypothesis.given(hypothesis.strategies.none())
def _first_example(nothing: None) -> None:
    """With the first, hypothesis looks for what refers to its random numbers; once frozen, Python 3.14 does not find it."""


def pytest_collection_finish() -> None:
    """Half a million objects live until the end from here on: no garbage collection need look at them again."""
    _first_example()
    gc.collect()
    if sys.implementation.name == "cpython":  # PyPy's collector has generations enough
        gc.freeze()
    measuring.make_safe()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Many tests without a daemon are one line of the summary."""
    report = yield
    told_in_one_line(report)
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """What measures goes on; in a worker of xdist, what it has measured outlives it."""
    measuring.go_on()
    worker = getattr(item.config, "workerinput", None)
    if worker is not None:
        measuring.keep_now_and_then(item.config.rootpath, worker["workerid"])


@pytest.hookimpl(wrapper=True, trylast=True)  # so what stands below `yield` comes before pytest-cov's own
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """A worker that came to its end needs no copy; those of the others count."""
    missed = Missed()
    session.config.pluginmanager.register(missed)
    result = yield
    if missed.any or find_spec("distributed") is None:  # not where something of it had to be compiled
        measuring.ask_for_no_share(session.config)
    worker = getattr(session.config, "workerinput", None)
    if worker is not None:
        measuring.forget(session.config.rootpath, worker["workerid"])
    else:
        measuring.restore(session.config.rootpath)
    return result


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _nothing_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Takes the census. Autouse fixtures are set up first and torn down last, after the cards and loops of the test."""
    names = request.fixturenames
    _make_what_loops_keep()
    _count_simulations()
    if "pcscd" in names:
        make_ready(request.getfixturevalue("_daemon"))  # what a running daemon holds is no leak of the test's
    elif "world" in names and request.node.callspec.params["world"] != "simulated":
        yield  # it keeps a card from test to test
        return
    before = census.take()
    yield
    census.settle(before, contexts="no_leaks" in names)


@functools.cache
def _make_what_loops_keep() -> None:
    """uvloop opens a pipe for signals with its first loop and keeps it for the life of the process."""
    for backend, options in BACKENDS.values():
        anyio.run(anyio.lowlevel.checkpoint, backend=backend, backend_options=options)


@functools.cache
def _count_simulations() -> None:
    """Every simulation from now on has its contexts counted."""
    from scardface.testing import SimulatedPCSC

    make = SimulatedPCSC.__init__

    @functools.wraps(make)
    def make_and_count(self: SimulatedPCSC, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        census.watch(self)

    SimulatedPCSC.__init__ = make_and_count  # type: ignore[method-assign]


@pytest.fixture
def no_leaks() -> None:
    """Fails the test at its end unless it is back at the simulated contexts that it began with, too."""


@pytest.fixture(autouse=True)
def _loop_stays_free(request: pytest.FixtureRequest, _nothing_stays: None) -> Iterator[LoopWatch | None]:
    """Fails an async test whose event loop is blocked by code of scardface."""
    if not inspect.iscoroutinefunction(getattr(request.node, "obj", None)) or "SCARDFACE_STORM" in os.environ:
        yield None  # an hour of it is more than CPython 3.11.2 survives; see `_stack` in tests/support/loop_watch.py
        return
    with LoopWatch() as watch:
        yield watch
    assert not watch.found, f"code of scardface blocked the event loop:\n{watch.found}"


@pytest.fixture(scope="session")
def scard() -> Any:
    """pyscard's binding; `simulated_only` in .ci leaves out who asks for it where it is not installed."""
    from smartcard import scard

    return scard


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    """Another program, to be used by a test that also uses `pcscd`; what it holds goes with it."""
    with running() as program:
        yield program


@pytest.fixture(scope="session")
def _daemon() -> Iterator[PrivatePcscd]:
    """The daemon of this run. A process can have no other one beside it, so it is started once and kept."""
    from scardface.testing import PcscdUnavailable, PrivatePcscd

    if "SCARDFACE_DAEMON_BESIDE" in os.environ:
        from tests.support import daemon_beside

        daemon_beside.use_it()
    try:
        daemon = PrivatePcscd(READERS)
        daemon.start()
    except PcscdUnavailable as error:
        without_pcscd(error)
    try:
        yield daemon
    finally:
        daemon.stop()


def make_ready(daemon: PrivatePcscd) -> None:
    """Start the daemon again if a test left it stopped or with other readers."""
    from scardface.testing._pcscd_process import reader_names

    if not daemon.running or daemon.readers != reader_names(READERS):
        daemon.stop()
        daemon.start(READERS)


@pytest.fixture
def pcscd(_daemon: PrivatePcscd) -> Iterator[PrivatePcscd]:
    """The daemon of this run, with its readers empty in PC/SC's eyes. A test may stop, kill and start it, and leave cards in."""
    make_ready(_daemon)
    for reader in _daemon.readers:
        _daemon.wait_for_removal(reader)
    yield _daemon
    _daemon.remove_all()
