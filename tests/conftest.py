"""The fixtures that all tests share.

- `anyio_backend`: every test marked `anyio` runs on asyncio, on asyncio under uvloop, and on trio; with the real daemon on one of
  them (see tests/support/faces.py).
- `pcscd`: the real PC/SC daemon of this test run, with four virtual readers, running and empty when the test begins.
- `foreign`: another program that uses the same daemon.
- `no_leaks`: fails the test if threads or file descriptors are left when everything else of the test is torn down.
- Always on: an async test fails if code of scardface blocks its event loop (see tests/support/loop_watch.py).
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import hypothesis
import pytest

from tests.support import census
from tests.support.faces import loops_and_faces
from tests.support.foreign import Foreign, running
from tests.support.loop_watch import LoopWatch

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd

hypothesis.settings.register_profile("scardface", deadline=None)  # how long an example takes is the machine's
hypothesis.settings.load_profile("scardface")

REQUIRED = os.environ.get("SCARDFACE_REQUIRE_PCSCD") == "1"
"""Whether a test that needs pcscd fails, rather than being skipped, where pcscd cannot run."""

READERS = 4
"""How many readers the private pcscd has."""

BACKENDS: list[Any] = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]
if sys.platform != "win32":
    BACKENDS.append(pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The event loops and faces that a test is run with."""
    mark = loops_and_faces(metafunc)
    if mark is not None:
        metafunc.definition.add_marker(mark)


def pytest_collection_finish() -> None:
    """Half a million objects live until the end from here on: no garbage collection need look at them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _census_if_asked(request: pytest.FixtureRequest) -> Iterator[None]:
    """The work of `no_leaks`. Autouse fixtures are set up first and torn down last, after the cards and loops of the test."""
    if "no_leaks" not in request.fixturenames:
        yield
        return
    _make_what_loops_keep()
    if "pcscd" in request.fixturenames:
        make_ready(request.getfixturevalue("_daemon"))  # what a running daemon holds is no leak of the test's
    before = census.take()
    yield
    census.settle(before)


@functools.cache
def _make_what_loops_keep() -> None:
    """uvloop opens a pipe for signals with its first loop and keeps it for the life of the process."""
    for param in BACKENDS:
        backend, options = param.values[0]
        anyio.run(anyio.lowlevel.checkpoint, backend=backend, backend_options=options)


@pytest.fixture
def no_leaks() -> None:
    """Fails the test at its end unless it is back at the threads and file descriptors that it began with."""


@pytest.fixture(autouse=True)
def _loop_stays_free(request: pytest.FixtureRequest, _census_if_asked: None) -> Iterator[LoopWatch | None]:
    """Fails an async test whose event loop is blocked by code of scardface."""
    if not inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        yield None
        return
    with LoopWatch() as watch:
        yield watch
    assert not watch.found, f"code of scardface blocked the event loop:\n{watch.found}"


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    """Another program, to be used by a test that also uses `pcscd`; what it holds goes with it."""
    with running() as program:
        yield program


@pytest.fixture(scope="session")
def _daemon() -> Iterator[PrivatePcscd]:
    """The daemon of this run. A process can have no other one beside it, so it is started once and kept."""
    from scardface.testing import PcscdUnavailable, PrivatePcscd

    try:
        daemon = PrivatePcscd(READERS)
        daemon.start()
    except PcscdUnavailable as error:
        if REQUIRED:
            pytest.fail(f"SCARDFACE_REQUIRE_PCSCD=1, but: {error}", pytrace=False)
        pytest.skip(f"no private pcscd here: {error}")
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
