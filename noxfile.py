"""What is checked, on every Python that there is: `nox`, or `nox -s NAME`; `nox -l` lists the sessions.

Rules:

- `builtin`, `bundles`, `gevent` and `uncompiled` run only when they are named.
- A Python that the machine does not have is skipped, and nox says so; none is downloaded.
- `tests`, `builtin` and `lowest` run all that pytest finds, or what stands behind `--`: `nox -s tests-3.12 -- tests/test_sync.py`.
  `core`, `lowest -- core` and `package` are quick, and part of `.ci/run`.
- pyscard has no wheels for Linux: pip compiles it, with a C compiler, swig, libpcsclite-dev and Python's headers, once for each
  Python. `builtin` and `lowest` take Debian's where nox runs on Debian's Python, as the README's commands do; `package` needs none.
- The lowest versions are those that pyproject.toml names behind `>=`; they are written down nowhere else.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import nox

ROOT = Path(__file__).parent
SYSTEM = ["--system-site-packages"] if sys.base_prefix == "/usr" else []
"""How an environment gets Debian's pyscard."""
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14", "3.15"]
UNCOMPILED = ["3.13t", "3.14t", "3.15t", "pypy3.11"]
"""Where pyscard's binding has to be compiled, or turns the GIL on again."""
CORE = [
    *(f"tests/iso7816/test_{name}.py" for name in ("apdu", "atr", "channel", "layer", "tlv")),
    *(f"tests/_faces/test_{name}.py" for name in ("card", "routes", "scard_calls", "sync_scard")),
    *(f"tests/_session/test_{name}.py" for name in ("card_request", "session")),
    *(f"tests/_waiting/test_{name}.py" for name in ("dispatcher", "event_queue")),
    *(f"tests/test_{name}.py" for name in ("errors", "packaging", "sync")),
    "tests/_pcsc/test_events.py",
    "tests/_reader/test_attributes.py",
    "tests/_reader/test_pin_pad.py",
    "tests/replay/test_cassette.py",
    "tests/testing/test_file_card.py",
    "tests/testing/test_simulated_slot.py",
]
"""What differs first where a Python or a dependency does: both faces, on all loops."""

INSTALLED = """
import importlib
from importlib import metadata, resources

import scardface

assert metadata.version("scardface") == scardface.__version__
assert "site-packages" in scardface.__file__
assert resources.files("scardface").joinpath("py.typed").is_file()
for name in ("sync", "backend", "testing", "testing.conformance", "replay", "contactless", "errors", "tracing"):
    module = importlib.import_module(f"scardface.{name}")
    assert all(hasattr(module, each) for each in module.__all__)
assert all(hasattr(scardface, each) for each in scardface.__all__)


def test_the_plugin(pcsc, virtual_card):
    with scardface.sync.SCard(timeout=5) as card:
        assert card.send(bytes.fromhex("00A40000023F0000")).is_successful()
"""
"""What is true of an installed package; the test is for pytest, which finds the plugin by its entry point."""

BUNDLED = """
import scardface, scardface.backend, scardface.contactless, scardface.errors, scardface.replay, scardface.sync, scardface.testing
import scardface.cli

for module in (scardface, *(getattr(scardface, name) for name in "backend contactless errors replay sync testing".split())):
    assert all(hasattr(module, each) for each in module.__all__)
scardface.cli.main()
"""
"""A program that uses all public names, and is the command line."""

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"
nox.options.sessions = ["checkers", "docs", "tests", "lowest", "package"]


@nox.session
def checkers(session: nox.Session) -> None:
    """ruff, mypy and pyright: the package, and tests/typing, which holds the types that users see."""
    session.install("--editable", ".[dev,test]")
    session.run("python", ".ci/generate_sync.py", "--check")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy", "--strict", "scardface", "tests/typing")
    session.run("pyright", "tests/typing")
    session.run("pyright", "--verifytypes", "scardface", "--ignoreexternal")


@nox.session
def gevent(session: nox.Session) -> None:
    """The tests under gevent's and eventlet's monkey patching, which `tests` skips."""
    session.install("--editable", ".[test,gevent-test]")
    session.run("pytest", "tests/test_green_threads.py")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests, with the newest dependencies."""
    session.install("--editable", ".[test]")
    session.run("pytest", *(session.posargs or ["-n", "3"]))


@nox.session(venv_params=SYSTEM)
def builtin(session: nox.Session) -> None:
    """All tests, or what stands behind `--`, with the built-in binding in pyscard's place."""
    session.install("--editable", ".[test]")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "3"]), env={"SCARDFACE_BINDING": "ctypes"})


@nox.session(python=PYTHONS)
def core(session: nox.Session) -> None:
    """A few hundred tests on the simulated PC/SC, with the newest dependencies."""
    session.install("--editable", ".[test]")
    _run_core(session)


@nox.session(python=UNCOMPILED)
def uncompiled(session: nox.Session) -> None:
    """The tests of `core` with nothing compiled, then storms of threads (`-- 10000`: so many), without a GIL and on PyPy."""
    session.install("--only-binary", ":all:", "--editable", ".[test-core]")
    _run_core(session, {"SCARDFACE_BINDING": "ctypes", "PYTHON_GIL": "0"})
    session.run("python", ".ci/thread_storms.py", *session.posargs, env={"SCARDFACE_BINDING": "ctypes", "PYTHON_GIL": "0"})


@nox.session(venv_params=SYSTEM)
def lowest(session: nox.Session) -> None:
    """All tests, or with `-- core` those of `core`, with the lowest versions of the dependencies that the metadata allow."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    wanted_extras = ("cli", "pyscard", "scp", "test", "test-core")
    named = (*project["dependencies"], *(each for extra in wanted_extras for each in extras[extra]))
    wanted = [each for each in named if not each.startswith("scardface")]
    session.install("--editable", ".", *(each.replace(">=", "==") for each in wanted))
    if session.posargs == ["core"]:
        _run_core(session)
    else:
        session.run("python", "-m", "pytest", *(session.posargs or ["-n", "3"]))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/, strictly: a warning is an error."""
    session.install("--editable", ".[docs]")
    session.run("python", "-m", "mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel, twice the same; install each in an empty environment, where no pyscard is, and use it there."""
    session.install("build", "twine")
    run = functools.partial(session.run, external=True)
    with session.chdir(session.create_tmp()):  # away from the checkout, whose folder is a package, too
        built = _build(session, ".")
        again = _build(session, "again")
        for one, other in zip(built, again, strict=True):
            if Path(one).read_bytes() != Path(other).read_bytes():
                session.error(f"{one} and {other} differ, from the same commit")
        session.run("twine", "check", "--strict", *built)
        Path("pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # else the checkout's configuration is found
        Path("test_installed.py").write_text(INSTALLED, encoding="utf-8")
        for path in built:
            session.run("python", "-m", "venv", "--clear", "empty")
            run("empty/bin/pip", "install", "--quiet", path)
            run("empty/bin/python", "test_installed.py")
            run("empty/bin/scardface", "demo", "--help", silent=True)
        run("empty/bin/scardface", "demo", "--virtual", silent=True)
        run("empty/bin/pip", "install", "--quiet", f"{built[-1]}[cli]", "pytest")
        run("empty/bin/scardface", "readers", "--virtual", "--json")
        run("empty/bin/python", "-m", "pytest", "-q", "test_installed.py")


@nox.session
def bundles(session: nox.Session) -> None:
    """Programs that bring scardface along: PyInstaller's, a zip archive, and the command by pipx and uvx."""
    session.install("build", "pipx", "pyinstaller", "uv")
    run = functools.partial(session.run, external=True)
    folder = Path(session.create_tmp()).resolve()
    with session.chdir(folder):
        wheel = next(path for path in _build(session, ".") if path.endswith(".whl"))
        named = f"scardface[cli] @ {(folder / wheel).as_uri()}"
        session.install("--force-reinstall", named)
        Path("program.py").write_text(BUNDLED, encoding="utf-8")
        session.run("pyinstaller", "--noconfirm", "--onefile", "--log-level", "ERROR", "program.py")
        session.run("python", "-m", "pip", "install", "--quiet", "--upgrade", "--target", "zipped", named)
        Path("zipped/__main__.py").write_text(BUNDLED, encoding="utf-8")
        session.run("python", "-m", "zipapp", "zipped", "--output", "program.pyz")
        env = {"PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "bin")}
        session.run("pipx", "install", "--force", named, env=env, silent=True)
        for command in (["dist/program"], ["python", "program.pyz"], ["bin/scardface"], ["uvx", "--from", named, "scardface"]):
            for words in (["readers", "--virtual", "--json"], ["demo", "--virtual"], ["doctor", "--help"]):
                run(*command, *words, silent=words[0] != "readers")


def _build(session: nox.Session, folder: str) -> list[str]:
    """Build sdist and wheel into `folder`, where older ones may lie; return their paths."""
    for old in Path(folder).glob("scardface-*"):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", folder, str(ROOT), silent=True)
    return sorted(str(path) for path in Path(folder).glob("scardface-*"))


def _run_core(session: nox.Session, env: Mapping[str, str] = MappingProxyType({})) -> None:
    session.run("python", "-m", "pytest", "-n", "2", "-q", "-p", "simulated_only", *CORE, env={"PYTHONPATH": ".ci", **env})
