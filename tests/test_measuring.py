"""tests/support/measuring.py: what was measured outlives a worker, and an interrupt in coverage's lock."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import measuring

ROOT = Path(__file__).resolve().parents[1]

CONFTEST = """
from tests.conftest import pytest_collection_finish, pytest_runtest_teardown, pytest_runtestloop, pytest_sessionstart
from tests.support import measuring

measuring.EVERY = 0.0
"""

SKIPS = """
import pytest
import used

def test_real():
    pytest.skip("no private pcscd here: for a reason")
"""


@pytest.mark.parametrize(("text", "status"), [(SKIPS, 0), (SKIPS.replace("no private pcscd", "nothing"), 1)])
def test_without_the_daemon_no_share_is_asked_for(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, text: str, status: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(used="def function():\n    return 1\n", test_skips=text)
    result = pytester.runpytest_subprocess("--cov=used", "--cov-fail-under=95", "-p", "no:cacheprovider", "-p", "no:scardface")
    assert result.ret == (status if find_spec("distributed") else 0)  # without that, no share is asked for anywhere


DIES = """
import os
import used

def test_uses():
    assert used.function() == 1

def test_dies():
    os._exit(3)
"""


def test_a_worker_that_dies_leaves_what_it_measured(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(used="def function():\n    return 1\n", test_dies=DIES)
    result = pytester.runpytest_subprocess("-n", "1", "--cov=used", "-p", "no:cacheprovider", "-p", "no:scardface")
    result.stdout.fnmatch_lines(["*used.py * 100%*", "*crashed while running*"])
    assert not list(pytester.path.glob(".coverage-*"))


DIES_AMONG_OTHERS = """
import os
import time
from pathlib import Path
import pytest
import used

ME = os.environ["PYTEST_XDIST_WORKER"]

@pytest.mark.parametrize("n", range(40))
def test_uses(n):
    if not Path("died").exists():
        Path(ME).touch()
        assert used.function() == 1
    time.sleep(0.05)

def test_dies():
    while not [name for name in ("gw0", "gw1") if name != ME and Path(name).exists()]:
        time.sleep(0.01)
    Path("died").touch()
    os._exit(3)
"""


@pytest.mark.parametrize("every", ["0.0", "1000.0"])
def test_the_worker_that_takes_its_place_erases_nothing_of_the_others(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, every: str
) -> None:
    """One that was at its end, or that went on to measure."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(CONFTEST.replace("0.0", every))
    pytester.makepyfile(used="def function():\n    return 1\n", test_dies=DIES_AMONG_OTHERS)
    result = pytester.runpytest_subprocess("-n", "2", "--cov=used", "-p", "no:cacheprovider", "-p", "no:scardface")
    result.assert_outcomes(passed=40, failed=1)
    result.stdout.fnmatch_lines(["*used.py * 100%*", "*crashed while running*"])
    assert not list(pytester.path.glob(".coverage-*"))


TAKEN_AWAY = """
import sys
import used

def test_interrupted():
    sys.settrace(None)  # as the interpreter does

def test_uses():
    assert used.function() == 1
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="coverage measures by sys.monitoring there")
def test_measuring_goes_on_after_an_interrupt_in_it(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(used="def function():\n    return 1\n", test_taken=TAKEN_AWAY)
    result = pytester.runpytest_subprocess("--cov=used", "-p", "no:cacheprovider", "-p", "no:scardface")
    result.stdout.fnmatch_lines(["*used.py * 100%*"])


INTERRUPTED = """
import threading
import coverage
from tests.support import measuring

measured = coverage.Coverage(data_file=None, config_file=False, source=["tests"])
measured.start()
measuring.make_safe()
collector = measured._collector
if hasattr(collector, "lock_data"):  # from coverage 7.17.5 on no handler can run between the two
    collector.lock_data()  # and an exception in place of unlock_data
thread = threading.Thread(target=__import__, args=("tests.support.figures",), daemon=True)
thread.start()
thread.join(20)
print("hangs" if thread.is_alive() else "goes on", flush=True)
"""


def test_an_interrupt_in_coverages_lock_hangs_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "goes on" in done.stdout, done.stderr


def test_without_coverage_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "coverage", raising=False)
    monkeypatch.setattr(measuring, "EVERY", 0.0)
    measuring.make_safe()
    measuring.keep_now_and_then(tmp_path, "gw0")
    measuring.restore(tmp_path)
    assert not list(tmp_path.iterdir())
