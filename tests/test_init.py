"""The names at the top: each is documented, and loaded when it is used."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import scardface
import scardface.sync


def test_every_name_is_documented() -> None:
    public = {name: getattr(scardface, name) for name in scardface.__all__}
    described = {name for name, each in public.items() if inspect.isclass(each) or inspect.isfunction(each)}
    assert not [name for name in described if not inspect.getdoc(public[name])]


def test_every_name_has_its_room() -> None:
    names = [name for names in scardface._MODULES.values() for name in names]
    assert sorted(names) == scardface.__all__
    for room, names in scardface._MODULES.items():
        module = importlib.import_module(f"scardface.{room}")
        for name in names:
            assert getattr(scardface, name) is getattr(module, name)
            assert name in dir(scardface)


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match="module 'scardface' has no attribute 'SCart'"):
        scardface.SCart  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="SCart"):
        exec("from scardface import SCart")


def test_importing_the_package_loads_nothing_else_until_a_name_is_used() -> None:
    code = (
        "import sys, scardface;"
        "loaded = [name for name in ('anyio', 'smartcard', 'asyncio', 'scardface._faces.scard') if name in sys.modules];"
        "assert not loaded, loaded; scardface.SCard; assert 'anyio' in sys.modules; assert 'smartcard' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_sync_faces_names_are_its_own_or_the_packages() -> None:
    own = {name: module for module, names in scardface.sync._MODULES.items() for name in names}
    assert set(own) < set(scardface.sync.__all__) <= set(dir(scardface.sync))
    for name in scardface.sync.__all__:
        home = importlib.import_module(f"scardface.{own[name]}") if name in own else scardface
        assert getattr(scardface.sync, name) is getattr(home, name)
    with pytest.raises(ImportError, match="SCart"):
        exec("from scardface.sync import SCart")


def test_a_script_of_the_sync_face_loads_no_event_loop() -> None:
    """Nor what it does not use: it is the start of a short script that takes the longest."""
    code = (
        "import sys; before = set(sys.modules); from scardface.sync import SCard;"  # a .pth of the machine's may have loaded some
        "heavy = {'anyio', 'asyncio', 'pathlib', 'smartcard', 'scardface._faces.sync_monitor', 'scardface._faces.sync_pool'};"
        "found = heavy & set(sys.modules) - before; assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.slow
def test_every_module_can_be_imported_everywhere() -> None:
    """Also where the modules that Unix alone has are not: nothing of a platform runs at import."""
    code = (
        "import importlib.util, pkgutil, sys\n"
        "import anyio, click, multiprocessing.util, prompt_toolkit.shortcuts, pytest, rich.console\n"  # which know where they are
        "fleet = importlib.util.find_spec('distributed') and importlib.import_module('distributed')\n"  # it, too
        "for name in ('fcntl', 'grp', 'pty', 'pwd', 'resource', 'termios', 'tty'): sys.modules[name] = None\n"
        "import scardface\n"
        "names = [each.name for each in pkgutil.walk_packages(scardface.__path__, 'scardface.', lambda name: None)]\n"
        "names = [name for name in names if fleet or not name.startswith('scardface.distributed')]\n"
        "for name in names: name.endswith('__main__') or importlib.import_module(name)\n"
        "assert len(names) > 100, names\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_type_checker_sees_the_rooms() -> None:
    """What is imported for type checkers is what the table says."""
    tree = ast.parse(Path(scardface.__file__ or "").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING")
    imported = {node.module: tuple(alias.name for alias in node.names) for node in block.body if isinstance(node, ast.ImportFrom)}
    assert imported == scardface._MODULES
