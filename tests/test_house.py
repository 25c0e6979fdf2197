"""The house rules that a machine can check: the floors of docs/architecture.md, a docstring, a size and a test for every room.

The table in docs/architecture.md is what is checked here, so that the picture and the house cannot differ. A room
may import those that stand above it in the table. A wing may import every floor (where its row says "public names": only modules
whose name has no underscore in front), and the wings that its row names behind "imports".
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "scardface"
MODULES = sorted(PACKAGE.rglob("*.py"))
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
MAX_LINES = 900
"""One idea, one file: a long one that is one idea is better than one in three pieces; more than this is seldom one."""
EXTRAS = {
    "click": {"cli"},
    "prompt_toolkit": {"cli"},
    "rich": {"cli"},
    "cryptography": {"scp03"},
    "distributed": {"distributed", "cli"},
    "dask": {"distributed"},
    "tornado": {"distributed"},
}
"""What only an extra installs, and the wings that may need it; the command line asks for Dask when a command does."""


class Room(NamedTuple):
    """One room of the table: its place counted from the top, and what a wing may import."""

    place: int
    wing: bool
    wings: frozenset[str]
    public_only: bool


def rooms(text: str) -> dict[str, Room]:
    """The rooms of the table in a page, by name without `.py` or `/`."""
    found: dict[str, Room] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 3 or not re.fullmatch(r"\d|wing", cells[0]):
            continue
        imports = re.search(r"imports (.*)", cells[2])
        wings = frozenset(re.findall(r"`(\w+)/?`", imports[1])) if imports else frozenset[str]()
        for name in re.findall(r"`(\w+)(?:\.py|/)`", cells[1]):
            found[name] = Room(len(found), cells[0] == "wing", wings, "public names" in cells[2])
    return found


ROOMS = rooms((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))


def room_of(module: str) -> str:
    """The room that a dotted module name belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def dotted(path: Path) -> str:
    """The module name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, tree: ast.Module) -> Iterator[str]:
    """Every module that a file imports, wherever in it, as absolute names; `from package import module` counts as the module."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                folder = ROOT.joinpath(*base, alias.name)
                is_module = folder.is_dir() or folder.with_suffix(".py").is_file()
                yield ".".join([*base, alias.name] if is_module else base)


def is_smartcard_scard(path: Path) -> bool:
    """Whether a file imports `smartcard.scard`, in either spelling."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and any(alias.name.startswith("smartcard.scard") for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(name.startswith("smartcard.scard") for name in names):
                return True
    return False


def offence(importer: str, target: str) -> str:
    """Why a module may not import another one of the package; empty if it may. Both are dotted names."""
    mine, its = room_of(importer), room_of(target)
    if mine == its:
        return ""
    for name in (mine, its):
        if name not in ROOMS:
            return f"the room {name} is not in the table of docs/architecture.md: add it there, on its floor"
    here, there = ROOMS[mine], ROOMS[its]
    if there.wing:
        return "" if here.wing and its in here.wings else f"{importer} imports the wing {its}, which its row does not allow"
    if not here.wing:
        return "" if there.place < here.place else f"{importer} imports {target}, which does not stand above it in the table"
    private = any(part.startswith("_") for part in target.split(".")[1:]) and its != "__init__"
    if here.public_only and private and its not in here.wings:
        return f"{importer} imports {target}, but its row says: public names"
    return ""


@pytest.fixture(params=MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def module(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_room_is_in_the_table(module: Path) -> None:
    room = room_of(dotted(module))
    assert room in ROOMS, f"the room {room} is not in the table of docs/architecture.md: add it there, on its floor"


def test_every_row_of_the_table_is_a_room() -> None:
    built = {room_of(dotted(path)) for path in MODULES}
    assert set(ROOMS) <= built, f"the table of docs/architecture.md has rows without a room: {sorted(set(ROOMS) - built)}"


def test_imports_go_down_the_table_only(module: Path) -> None:
    targets = imported(module, ast.parse(module.read_text(encoding="utf-8")))
    ours = [target for target in targets if target.split(".")[0] == "scardface"]
    offences = {words for target in ours if (words := offence(dotted(module), target))}
    assert not offences, "\n".join(sorted(offences))


def test_no_import_cycle() -> None:
    """Not between two modules of a folder either, nor for types, nor inside of functions."""
    names = {dotted(path): path for path in MODULES}
    arrows = {
        name: {target for target in imported(path, ast.parse(path.read_text(encoding="utf-8"))) if target in names}
        for name, path in names.items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " imports ".join((*above[above.index(name) :], name))
        if name not in done:
            for target in arrows[name]:
                visit(target, (*above, name))
            done.add(name)

    for name in names:
        visit(name, ())


def test_rules_stand_at_the_head(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert docstring, f"{module.relative_to(ROOT)} does not begin with a docstring that says what rules it keeps"


def test_size(module: Path) -> None:
    lines = len(module.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{module.relative_to(ROOT)} has {lines} lines; {MAX_LINES} are allowed"


def test_has_a_test_module(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    if module.name == "__init__.py" and not any(isinstance(node, DEFINITIONS) for node in ast.walk(tree)):
        return  # names only: test_all_is_sorted_and_resolvable
    mirror = ROOT / "tests" / module.relative_to(PACKAGE).with_name(f"test_{module.stem.strip('_')}.py")
    assert mirror.is_file(), f"{module.relative_to(ROOT)} has no tests: {mirror.relative_to(ROOT)} is missing"
    tests = [node.name for node in ast.walk(ast.parse(mirror.read_text(encoding="utf-8"))) if hasattr(node, "name")]
    assert any(name.lower().startswith("test") for name in tests), f"{mirror.relative_to(ROOT)} has no test in it"


def test_all_is_sorted_and_resolvable(module: Path) -> None:
    if room_of(dotted(module)) == "distributed" and find_spec("distributed") is None:
        pytest.skip("distributed is not installed: pip install -e '.[distributed]'")
    loaded = importlib.import_module(dotted(module)) if module.name != "__main__.py" else None
    names = getattr(loaded, "__all__", None)
    if module == PACKAGE / "__init__.py":
        assert names, "scardface/__init__.py has no __all__"
    if names is not None:
        assert list(names) == sorted(set(names))
        assert not [name for name in names if not hasattr(loaded, name)]


def test_only_one_room_touches_the_binding() -> None:
    assert [path for path in MODULES if is_smartcard_scard(path)] == [PACKAGE / "_pcsc" / "pyscard.py"]


def test_what_is_taken_by_with_is_the_packages_own_lock(module: Path) -> None:
    """Those of `threading` may stay taken for ever, see RLock in _threads.py. One acquired without waiting may be of any kind."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    entered = {ast.unparse(item.context_expr) for node in ast.walk(tree) if isinstance(node, ast.With) for item in node.items}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert ast.unparse(node) not in ("threading.RLock()", "threading.Condition()"), node.lineno
        if isinstance(node, (ast.Name, ast.Attribute, ast.alias)):  # before Python 3.12 it has a lock, which a fork may leave taken
            assert "cached_property" not in ast.unparse(node), node.lineno
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and ast.unparse(node.value) == "threading.Lock()":
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            assert not entered & set(map(ast.unparse, targets)), node.lineno


UNINTERRUPTED = {
    "_waiting.acquisition": {"_first_query", "_search_by_serial"},  # in threads of their own, where no signal is handled
    "_waiting.serial_search": {"results"},  # the same
    "_session.exchanger": {"run"},  # what its handler does is for the errors of a card
    "_waiting.event_queue": {"pop"},  # its `if` ends the function, not the loop
}
"""Functions with such a loop that no exception of a signal handler leaves, or that need no handler for one."""


def loops_that_escape(body: list[ast.stmt], function: str, guarded: bool) -> Iterator[tuple[str, int]]:
    """The loops inside a `try` or `with` of their own function that CPython leaves without it, see scardface/_threads.py."""
    for node in body:
        if guarded and isinstance(node, (ast.While, ast.For)):
            on_condition = isinstance(node, ast.While) and not isinstance(node.test, ast.Constant)
            if on_condition or isinstance(node.body[-1], (ast.If, ast.For, ast.While)):
                yield function, node.lineno
        begins = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        inside = isinstance(node, (ast.Try, ast.With, ast.AsyncWith)) or (guarded and not begins)
        for name in ("body", "handlers", "orelse", "finalbody"):
            children = getattr(node, name, [])
            yield from loops_that_escape(children, node.name if begins else function, inside and (guarded or name == "body"))


def test_no_handlers_exception_passes_by_a_finally(module: Path) -> None:
    if room_of(dotted(module)) in ("_threads", "_session", "_waiting", "_faces", "replay"):
        found = loops_that_escape(ast.parse(module.read_text(encoding="utf-8")).body, "", False)
        allowed = UNINTERRUPTED.get(dotted(module).partition(".")[2], set())
        assert {function for function, _ in found} == allowed


def test_extras_are_needed_by_their_wings_only(module: Path) -> None:
    targets = imported(module, ast.parse(module.read_text(encoding="utf-8")))
    needed = {target.split(".")[0] for target in targets} & EXTRAS.keys()
    assert all(room_of(dotted(module)) in EXTRAS[each] for each in needed)


def test_no_module_needs_that_of_an_extra_when_it_is_imported() -> None:
    """But the wing itself: virtual cards can be made, and types read, where it is not installed."""
    program = (
        "import sys\nsys.modules['cryptography'] = None\nimport scardface.testing, scardface.replay\nscardface.testing.Scp03Card"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=True)


def test_importing_costs_nothing_else() -> None:
    """No metadata is read, no thread started, no wing loaded by `import scardface`."""
    program = (
        "import sys, threading, scardface\n"
        "assert threading.active_count() == 1\n"
        "wings = {'testing', 'contactless', 'replay', 'tracing', 'pytest_plugin', 'cli', 'scp03', 'distributed'}\n"
        "heavy = {'importlib.metadata', 'argparse', 'cryptography', 'distributed', 'dask'}\n"
        "heavy |= {f'scardface.{wing}' for wing in wings}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


SMALL_TABLE = """
| floor | room | what lives there |
| --- | --- | --- |
| 0 | `errors.py` | the tree |
| 1 | `_low.py`, `_next.py` | low |
| 2 | `__init__.py` | names |
| wing | `testing/` | cards |
| wing | `tools.py` | on public names; imports `testing` |
| wing | `words/` | imports public names and the tables of `testing/` |
"""


def test_the_rules_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rooms(SMALL_TABLE)
    assert list(table) == ["errors", "_low", "_next", "__init__", "testing", "tools", "words"]
    monkeypatch.setitem(globals(), "ROOMS", table)
    allowed = [("_low", "errors"), ("_next", "_low"), ("testing.a", "_low"), ("testing.a", "testing.b"), ("tools", "testing")]
    allowed += [("words", "testing._a"), ("tools", "errors")]
    refused = [("errors", "_low"), ("_low", "_next"), ("_low", "testing"), ("testing", "tools"), ("tools", "_low")]
    refused += [("words", "tools"), ("words", "_low"), ("tools", "errors._inner")]
    assert not [pair for pair in allowed if offence(*(f"scardface.{name}" for name in pair))]
    assert all(offence(*(f"scardface.{name}" for name in pair)) for pair in refused)
    assert offence("scardface._low", "scardface")
    assert not offence("scardface.tools", "scardface")
    assert "add it there" in offence("scardface._low", "scardface._new")
