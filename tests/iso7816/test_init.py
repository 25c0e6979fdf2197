"""The public names of `scardface.iso7816`: loaded when they are used, and what the table says."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from scardface import iso7816


def test_every_name_has_its_module() -> None:
    assert sorted(name for names in iso7816._MODULES.values() for name in names) == iso7816.__all__
    for module, names in iso7816._MODULES.items():
        for name in names:
            assert getattr(iso7816, name) is getattr(importlib.import_module(f"scardface.iso7816.{module}"), name)
            assert getattr(iso7816, name).__name__ == name
            assert name in dir(iso7816)


def test_a_type_checker_sees_the_same() -> None:
    tree = ast.parse(Path(iso7816.__file__ or "").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {node.module: tuple(alias.name for alias in node.names) for node in block.body if isinstance(node, ast.ImportFrom)}
    assert imported == iso7816._MODULES


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'selekt'"):
        iso7816.selekt  # type: ignore[attr-defined]  # noqa: B018


def test_an_import_loads_nothing_until_a_name_is_used() -> None:
    code = (
        "import sys; from scardface import iso7816;"
        "assert not [name for name in sys.modules if name.startswith('scardface.iso7816.')];"
        "iso7816.select; assert 'scardface.iso7816._commands' in sys.modules; assert 'anyio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_the_tables_say_can_be_asked_for() -> None:
    assert iso7816.tag_name(0x5F50) == iso7816.tag_name(b"\x5f\x50") == "uniform resource locator"
    assert iso7816.tag_name(0x82, 0x6F) == iso7816.tag_name(b"\x82", b"\x6f") == "file descriptor"
    assert iso7816.instruction_name(iso7816.read_binary()) == "READ BINARY"
    assert iso7816.status_meaning(0x6A, 0x82) == "file or application not found"
    assert [part.name for part in iso7816.explain_atr(bytes.fromhex("3B800181"))] == ["TS", "T0", "TD1", "TCK"]
    assert next(iso7816.explain_historical(iso7816.ATR.fromhex("3B028031")))[1].startswith("category")
