"""The metadata say what is so. That the built package works where nothing else is installed is shown by `nox -s package`.

No TOML reader is used, since Python 3.10 has none: the few lines asked for are read as they stand.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import scardface

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
IMPORTED_AS = {"pyscard": "smartcard", "pytest_asyncio": "pytest_asyncio"}
"""Packages whose module has another name."""


def array(name: str) -> list[str]:
    """The strings of an array in pyproject.toml."""
    found = re.search(rf"^{name} = (\[(?:[^\]\"#]|\"[^\"]*\"|#.*)*\])", PROJECT, re.MULTILINE)
    assert found, f"pyproject.toml has no array {name}"
    value: list[str] = ast.literal_eval(found[1])
    return value


def module_of(requirement: str) -> str:
    """The module that a requirement brings."""
    name = re.split(r"[^\w.-]", requirement)[0].replace("-", "_")
    return IMPORTED_AS.get(name, name)


def foreign_imports(*folders: Path) -> Iterator[str]:
    """The modules of others that files import, wherever in them."""
    for folder in folders:
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                roots = {name.partition(".")[0] for name in names}
                yield from roots - sys.stdlib_module_names - {"scardface"}


def test_the_version_is_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", scardface.__version__)
    assert 'dynamic = ["version"]' in PROJECT
    assert '[tool.hatch.version]\npath = "scardface/__init__.py"' in PROJECT
    literal = re.compile(rf"[\"']{re.escape(scardface.__version__)}[\"']")
    holders = [path for path in [*ROOT.glob("*.*"), *(ROOT / "scardface").rglob("*.py")] if path.is_file()]
    found = [path.name for path in holders if path.suffix in (".py", ".toml") and literal.search(path.read_text(encoding="utf-8"))]
    assert found == ["__init__.py"]


def test_the_pythons_are_the_same_everywhere() -> None:
    told = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    assert f'requires-python = ">={told[0]}"' in PROJECT
    assert f"Python {told[0]} to {told[-1]}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"PYTHONS = {told}".replace("'", '"') in (ROOT / "noxfile.py").read_text(encoding="utf-8")
    assert f"for version in {' '.join(told)}; do" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert f'target-version = "py{told[0].replace(".", "")}"' in PROJECT
    assert PROJECT.count(f'ython_version = "{told[0]}"') == PROJECT.count(f'ythonVersion = "{told[0]}"') == 1
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in told


def test_what_is_imported_is_declared() -> None:
    needed, extra = {module_of(each) for each in array("dependencies")}, {module_of(each) for each in array("cli")}
    channels = {module_of(each) for each in array("scp")}
    package = ROOT / "scardface"
    fleet = {module_of(each) for each in array("distributed")}
    elsewhere = ("cli", "distributed", "pytest_plugin.py", "scp03.py")
    rooms = [path for path in package.iterdir() if path.name not in elsewhere and path.suffix != ".pyc"]
    # trio is looked for where it runs already; OpenTelemetry, an extra, by the writer that needs it.
    assert set(foreign_imports(*rooms)) - {"trio", "opentelemetry"} == needed
    assert extra <= set(foreign_imports(package / "cli")) <= needed | extra | fleet
    assert fleet == set(foreign_imports(package / "distributed"))
    assert channels == set(foreign_imports(package / "scp03.py"))
    ours = {"benchmarks", "greeter", "tests"}
    # By pytest; by trio; by mypy, for tests/typing; opentelemetry-sdk brings the package of that name.
    brought_along = {"packaging", "sniffio", "typing_extensions", "opentelemetry"}
    tests = {module_of(each) for each in [*array("test"), *array("test-core")]} | needed | extra | channels | ours | brought_along
    assert set(foreign_imports(ROOT / "tests")) <= tests


@pytest.mark.parametrize(
    ("sys_platform", "python_version", "implementation", "needed"),
    [
        *(("linux", version, "CPython", False) for version in ("3.10", "3.14")),
        *((platform, "3.13", "CPython", True) for platform in ("darwin", "win32")),
        *((platform, "3.14", "CPython", False) for platform in ("darwin", "win32")),
        *((platform, "3.11", "PyPy", False) for platform in ("linux", "darwin", "win32")),
    ],
)
def test_pyscard_is_needed_where_it_has_wheels(sys_platform: str, python_version: str, implementation: str, needed: bool) -> None:
    """Elsewhere pip would have to compile it; the extra asks for that."""
    [pyscard] = [each for each in map(Requirement, array("dependencies")) if each.name == "pyscard"]
    assert pyscard.marker
    environment = {"python_version": python_version, "platform_python_implementation": implementation}
    assert pyscard.marker.evaluate({**environment, "sys_platform": sys_platform}) is needed
    assert [Requirement(each).specifier for each in array("pyscard")] == [pyscard.specifier]


def test_the_core_needs_no_compiler() -> None:
    """pyscard's binding, uvloop and cryptography have no wheels for some platforms."""
    assert {"pyscard", "uvloop", "cryptography"} & {Requirement(each).name for each in array("test-core")} == set()
    assert Requirement(array("test-core")[0]).extras == {"cli"}
    [uvloop] = [each for each in map(Requirement, array("test")) if each.name == "uvloop"]
    assert uvloop.marker
    assert uvloop.marker.evaluate({"sys_platform": "linux", "platform_python_implementation": "CPython"})
    assert not uvloop.marker.evaluate({"sys_platform": "linux", "platform_python_implementation": "PyPy"})
    assert not uvloop.marker.evaluate({"sys_platform": "win32", "platform_python_implementation": "CPython"})


def test_each_requirement_has_a_lowest_version() -> None:
    """`nox -s lowest` takes these; the tools of `dev` are pinned or free to grow."""
    for name in ("dependencies", "cli", "pyscard", "scp", "distributed", "test", "test-core"):
        for each in array(name):
            assert re.fullmatch(r"[\w-]+>=[\d.]+(; .*)?|scardface\[[\w,-]+\]", each), (
                f"{each}: no lowest version that could be tried"
            )


def test_the_entry_points_are_there() -> None:
    scripts = re.findall(r'^scardface = "([\w.:]+)"$', PROJECT, re.MULTILINE)
    assert scripts == ["scardface.cli:main", "scardface.pytest_plugin"]
    module, name = scripts[0].split(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert importlib.import_module(scripts[1])


def test_the_types_come_along() -> None:
    assert (ROOT / "scardface" / "py.typed").is_file()
    assert '"Typing :: Typed"' in PROJECT


def test_the_sdist_has_what_the_tests_need() -> None:
    included = [ROOT / each.lstrip("/") for each in array("include")]
    assert not [path.name for path in included if not path.exists()]
    needed = {
        "scardface",
        "tests",
        "docs",
        "examples",
        "benchmarks",
        ".ci",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "noxfile.py",
    }
    assert needed <= {path.name for path in included}


def test_workflows_run_every_python_there_is_and_say_that_they_have_not_run() -> None:
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    workflows = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")}
    assert set(workflows) == {"linux", "macos", "windows"}
    for name in ("PYTHONS", "UNCOMPILED"):
        found = re.search(rf"^{name} = (\[.*\])$", noxfile, re.MULTILINE)
        assert found
        assert f"python: {found[1]}" in workflows["linux"]
    assert all(text.startswith("# Not run yet") for text in workflows.values())


def test_the_page_of_platforms_says_of_each_row_what_was_run() -> None:
    """A row without a date was not run and says so; what it names is there."""
    page = (ROOT / "docs" / "platforms.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in row.split("|")] for row in re.findall(r"^\|(.*)\|$", page.split("\n## ")[0], re.MULTILINE)[2:]
    ]
    assert len(rows) > 10
    for where, command, verdict, date, passed in rows:
        run = re.fullmatch(r"20\d\d-\d\d-\d\d", date) is not None
        assert run == bool(re.search(r"\d", passed)) != verdict.startswith("not run"), where
        assert command or not run, where
    assert not [name for name in re.findall(r"`\.ci/([\w.]+)", page) if not (ROOT / ".ci" / name).is_file()]


def test_every_session_of_nox_that_is_named_is_one() -> None:
    """And each has its row in the table of CONTRIBUTING.md."""
    sessions = {
        node.name
        for node in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and any("session" in ast.unparse(each) for each in node.decorator_list)
    }
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    scripts = [*(ROOT / ".ci").iterdir(), *(ROOT / ".github" / "workflows").glob("*.yml")]
    files = [ROOT / "noxfile.py", *(path for path in scripts if path.is_file())]
    texts = [page, *(path.read_text(encoding="utf-8") for path in files)]
    named = {name for text in texts for name in re.findall(r"nox -s (\w+)", text)}
    assert named - {"NAME"} <= sessions
    assert set(re.findall(r"^\| `nox -s (\w+)` \|", page, re.MULTILINE)) == sessions
