"""The documentation as a whole: its navigation, the reference, and what pages say of names and texts in the code.

The build itself, `python -m mkdocs build --strict`, is part of `.ci/run`: the tests do without the extra `docs`.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import logging
import re
from pathlib import Path

import pytest

import scardface
import scardface.iso7816
import scardface.pool
from tests.test_docs import MODULES, WITHOUT

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
CONFIGURATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def texts() -> set[str]:
    """All texts in the code of the package; of those with values in them, the parts between."""
    found = set()
    for path in (ROOT / "scardface").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_every_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r"^\s+- .*: ([\w/-]+\.md)$", CONFIGURATION, re.MULTILINE)
    assert len(PAGES) >= 20
    assert sorted(listed) == sorted(PAGES)


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert "font: false" in CONFIGURATION
    assert not re.findall(r"^\s+- (?:privacy|social|offline)\b", CONFIGURATION, re.MULTILINE), (
        "plugins that fetch, or have others fetch"
    )
    for name, text in PAGES.items():
        shown = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        assert not re.findall(r"!\[[^\]]*\]\(https?:|<(?:img|script|link|iframe)\b", shown), name


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module: str) -> None:
    """The sync face has a page for what differs; the rest are the same objects."""
    told = set(re.findall(r"^::: ([\w.]+)$", "\n".join(text for name, text in PAGES.items() if "reference/" in name), re.MULTILINE))
    for name in importlib.import_module(module).__all__:
        thing = getattr(importlib.import_module(module), name)
        same = thing is getattr(scardface, name, None) and f"scardface.{name}" in told
        assert same or f"{module}.{name}" in told, f"docs/reference/ does not have {module}.{name}"
    for name in told:
        owner, _, last = name.rpartition(".")
        if owner in WITHOUT:
            continue
        assert hasattr(importlib.import_module(owner), last), f"docs/reference/ has {name}, which is not there"


@pytest.mark.slow
def test_troubleshooting_has_messages_as_they_are() -> None:
    table = PAGES["troubleshooting.md"].split("## By message")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (?:`(\w+)`|a warning) \|", table, re.MULTILINE)
    known = texts()
    assert len(rows) >= 25
    assert not [message for message, _ in rows if not any(message in text for text in known)], "no text of the code"
    places = (scardface, scardface.iso7816, scardface.pool, builtins)
    assert all(any(hasattr(where, kind) for where in places) for _, kind in rows if kind)
    assert len(rows) == len(re.findall(r"^\| `", table, re.MULTILINE)), "a row that this does not read"


@pytest.mark.slow
def test_the_page_of_loggers_has_every_logger() -> None:
    used = {text for text in texts() if re.fullmatch(r"scardface(\.\w+)?", text)}
    called = set()
    for path in (ROOT / "scardface").rglob("*.py"):
        called |= set(re.findall(r'getLogger\("([\w.]+)"\)', path.read_text(encoding="utf-8")))
    assert called <= used
    assert called == set(re.findall(r"^\| `(scardface[\w.]*)` \|", PAGES["logging.md"], re.MULTILINE))
    assert all(isinstance(logging.getLogger(name), logging.Logger) for name in called)


def test_files_of_the_top_are_pages() -> None:
    for page, name in (
        ("changelog.md", "CHANGELOG.md"),
        ("contributing.md", "CONTRIBUTING.md"),
        ("security-policy.md", "SECURITY.md"),
    ):
        assert PAGES[page] == f"This page is `{name}` of the repository.\n"
        assert (ROOT / name).read_text(encoding="utf-8").startswith("# ")


def test_the_changelog_has_its_form() -> None:
    """https://keepachangelog.com: versions with dates, the newest first, changes under six headings."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", each) for each in versions[1:])
    assert scardface.__version__ in versions[1]
    kinds = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_public_modules_are_the_documented_ones() -> None:
    told = set(re.findall(r"`(scardface(?:\.\w+)*)`", PAGES["versions.md"].split("\n\n")[1]))
    assert told - WITHOUT == set(MODULES)


def test_the_page_of_events_has_every_event_and_its_fields() -> None:
    from dataclasses import fields
    from typing import get_args

    rows = {
        name: (told, cell) for name, told, cell in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", PAGES["events.md"], re.MULTILINE)
    }
    assert set(rows) == {each.__name__ for each in get_args(scardface.Event)}
    for each in get_args(scardface.Event):
        told = set(re.findall(r"`(\w+)`", rows[each.__name__][0]))
        assert told == {field.name for field in fields(each)} | {"initial"}, each
