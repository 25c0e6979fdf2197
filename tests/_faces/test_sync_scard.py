"""The sync face is what is generated from the async one; editors find types and docstrings in the source of both."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import scardface
from scardface import sync
from scardface._faces import async_base, scard, sync_base, sync_scard

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / ".ci" / "generate_sync.py"


def public(cls: type) -> dict[str, Any]:
    """What a class of ours offers, inherited or not, by name."""
    classes = [each for each in inspect.getmro(cls) if each.__module__.startswith("scardface.")]
    return {name: each for kind in reversed(classes) for name, each in vars(kind).items() if not name.startswith("_")}


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_sync", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_checked_in_is_what_is_generated() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr


def test_a_stale_file_is_told_of_and_written_anew(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*tool.FILES, *tool.FILES.values()]:
        (tmp_path / name).write_bytes((tool.FACES / name).read_bytes())
    before = (tmp_path / "sync_scard.py").read_text(encoding="utf-8")
    (tmp_path / "sync_scard.py").write_text(before + "\n", encoding="utf-8")
    monkeypatch.setattr(tool, "FACES", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate_sync.py", "--check"])
    with pytest.raises(SystemExit, match=r"^sync_scard\.py: run "):
        tool.main()
    monkeypatch.setattr(sys, "argv", ["generate_sync.py"])
    tool.main()
    assert (tmp_path / "sync_scard.py").read_text(encoding="utf-8") == before


def test_words_that_are_found_no_more_are_told_of(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever edits a docstring sees that the sync face has words of its own there."""
    for name in tool.FILES:
        text = (tool.FACES / name).read_text(encoding="utf-8").replace("Cancelled, it leaves at once", "Cancelled, it goes")
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(tool, "FACES", tmp_path)
    with pytest.raises(SystemExit, match=r"correct WORDS: .*the next `send` waits for that"):
        tool.everything()


SOURCE = '''"""Written."""

from __future__ import annotations

from ..errors import SCardError
from .async_base import AsyncBase
from .card import commands


class Some(AsyncBase):
    """`async with Some() as some:` and `await some.work()` in a paragraph that is long enough to be filled anew when words go.

    As it was:
    every line of it.
    """

    async def work(self) -> int:
        """Work.

        Returns:
            What `await` gives: `await self.more()`, in an entry that is long enough to be filled anew once a word of it is
                gone and another moves up.
            And another entry.
        """
        async with self.lock:
            return [each async for each in self.more()][0] + await self.last("await")
'''
TWIN = '''"""Generated from `some.py` by `.ci/generate_sync.py`, which writes it anew: edit that file, not this one."""

from __future__ import annotations

from ..errors import SCardError
from .card import commands
from .sync_base import SyncBase


class Some(SyncBase):
    """`with Some() as some:` and `some.work()` in a paragraph that is long enough to be filled anew when words go.

    As it was:
    every line of it.
    """

    def work(self) -> int:
        """Work.

        Returns:
            What `await` gives: `self.more()`, in an entry that is long enough to be filled anew once a word of it is gone and
                another moves up.
            And another entry.
        """
        with self.lock:
            return [each for each in self.more()][0] + self.last("await")
'''


def test_how_it_is_generated(tool: ModuleType) -> None:
    assert tool.generated(SOURCE, "some.py") == TWIN


# What users and editors see.


def test_both_faces_have_the_same_members_and_arguments() -> None:
    """Those that both have of the same source, and those that each has of its base alike."""
    ours, theirs = public(scardface.SCard), public(sync.SCard)
    assert set(ours) - {"aclose"} == set(theirs) - {"close"}
    assert {"transaction", "reset", "reconnect", "control", "attribute", "set_attribute", "layer", "send"} <= set(vars(sync.SCard))
    for name in [*(set(ours) & set(theirs)), "__init__"]:
        mine, other = getattr(scardface.SCard, name), getattr(sync.SCard, name)
        if callable(mine):
            pair = [
                [(each.name, each.kind, each.default) for each in inspect.signature(method).parameters.values()]
                for method in (mine, other)
            ]
            assert pair[0] == pair[1], name


@pytest.mark.parametrize("name", sorted(set(public(sync.SCard)) - {"close"}))
def test_both_faces_say_the_same_in_their_own_words(name: str, tool: ModuleType) -> None:
    ours, theirs = (" ".join((inspect.getdoc(getattr(cls, name)) or "").split()) for cls in (scardface.SCard, sync.SCard))
    assert ours
    assert tool.in_sync_words(ours).replace("async with", "with").replace("await ", "") == theirs


def test_both_monitors_say_the_same_of_their_arguments_and_errors() -> None:
    """They are written twice, since they wait each in their own way."""
    ours, theirs = ((inspect.getdoc(cls) or "").partition("Args:")[2] for cls in (scardface.ReaderMonitor, sync.ReaderMonitor))
    assert ours
    assert ours == theirs


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every public function of a file, and those of its public classes."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{name}", each) for name, each in functions(ast.Module(node.body, [])))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node.name, node


@pytest.mark.parametrize("cls", [scardface.SCard, sync.SCard, scardface.ReaderMonitor, sync.ReaderMonitor], ids=repr)
def test_docstrings_and_types_stand_in_the_source(cls: type) -> None:
    """Where editors read them: nothing is made up at run time."""
    seen = set()
    for kind in inspect.getmro(cls):
        if not kind.__module__.startswith("scardface."):
            continue
        tree = ast.parse(Path(inspect.getsourcefile(kind) or "").read_text(encoding="utf-8"))
        node = next(each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == kind.__name__)
        assert ast.get_docstring(node) == inspect.cleandoc(kind.__doc__ or "")
        for name, function in functions(ast.Module(node.body, [])):
            overloaded = any(isinstance(each, ast.Name) and each.id == "overload" for each in function.decorator_list)
            if name not in seen and not overloaded:
                seen.add(name)
                documented = vars(kind)[name]
                assert ast.get_docstring(function) == inspect.cleandoc(documented.__doc__ or ""), name
            assert function.returns is not None, name
            arguments = [*function.args.posonlyargs, *function.args.args[1:], *function.args.kwonlyargs]
            assert all(each.annotation is not None for each in arguments), name
    assert seen == {name for name, each in public(cls).items() if callable(each) or isinstance(each, property)}


def test_each_base_offers_what_the_source_asks_of_it() -> None:
    """Seams that nobody fills would be found by their first caller only."""
    for module, base in ((scard, async_base.AsyncBase), (sync_scard, sync_base.SyncBase)):
        tree = ast.parse(Path(inspect.getsourcefile(module) or "").read_text(encoding="utf-8"))
        own = vars(module.SCard)
        asked = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        missing = [name for name in asked - set(own) if not hasattr(base, name)]
        assert missing == []
    assert not [path.name for path in (ROOT / "scardface" / "_faces").glob("*.py") if "NotImplementedError" in path.read_text()]
