"""`scardface schema`, and that each command keeps to it.

The validator is a few lines: type, enum, pattern, properties, required, items, anyOf and references are all that the schema uses.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from scardface import ServiceDown
from scardface.cli import _schema, _watch
from scardface.errors import ServiceUnavailableError
from tests.support.command_line import SELECT, Command

TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "array": list,
    "object": dict,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    """What is wrong with a value by a schema."""
    if "$ref" in schema:
        return faults(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        each = [faults(value, one, root) for one in schema["anyOf"]]
        return [] if [] in each else min(each, key=len)
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{value!r} is none of {schema['enum']}"]
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(isinstance(value, TYPES[name]) and (name == "boolean") >= isinstance(value, bool) for name in types):
        return [f"{value!r} is no {types}"]
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return [f"{value!r} is not as {schema['pattern']}"]
    if isinstance(value, list):
        return [fault for item in value for fault in (faults(item, schema["items"], root) if "items" in schema else [])]
    if not isinstance(value, dict):
        return []
    found = [f"{name} is missing" for name in schema["required"] if name not in value]
    for name, part in value.items():
        inner = schema["properties"].get(name, schema.get("additionalProperties"))
        found += [f"{name} is not in the schema"] if inner is None else [f"{name}: {each}" for each in faults(part, inner, root)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("readers",),
        ("reader",),
        ("watch", "--count", "3"),
        ("atr",),
        ("reset",),
        ("dir",),
        ("read", "2F00"),
        ("doctor",),
        ("send", SELECT, "002000010431323334", "--keep-going"),
        ("demo",),
    ],
    ids=lambda words: words[0],
)
def test_each_command_keeps_to_it(scardface: Command, words: tuple[str, ...]) -> None:
    name, *rest = words
    schema = _schema.schema_of(name)
    lines = scardface(name, "--virtual", "--json", *rest).lines
    assert lines
    assert [fault for line in lines for fault in faults(line, schema, schema)] == []


def test_record_replay_and_trace(scardface: Command, tmp_path: Path) -> None:
    cassette = str(tmp_path / "x.cassette")
    for words in (("record", "--virtual", cassette, SELECT), ("replay", cassette, SELECT), ("trace", cassette)):
        schema = _schema.schema_of(words[0])
        [line] = scardface(words[0], "--json", *words[1:]).lines
        assert faults(line, schema, schema) == []


def test_events_that_the_simulation_does_not_show() -> None:
    schema = _schema.schema_of("watch")
    for error in (None, ServiceUnavailableError("gone")):
        assert faults({"time": 1.5, **_watch.fields(ServiceDown(error=error))}, schema, schema) == []
    assert set(_watch._KINDS.values()) == set(_schema._EVENTS)


def test_the_command_prints_it(scardface: Command) -> None:
    import json

    whole = json.loads(scardface("schema").out)
    assert whole["version"] == _schema.VERSION
    assert set(whole["$defs"]) == set(_schema.LINES)
    assert json.loads(scardface("schema", "send").out)["anyOf"] == [{"$ref": "#/$defs/exchange"}]
    assert [each["$ref"] for each in _schema.schema_of("shell")["anyOf"]] == ["#/$defs/exchange", "#/$defs/shell"]
    assert scardface("schema", "exchange").status == 2


def test_the_validator_finds_faults() -> None:
    schema = _schema.schema_of("doctor")
    good = {"check": "x", "ok": True, "words": "y", "cure": None}
    assert faults(good, schema, schema) == []
    bad: list[dict[str, Any]] = [{**good, "ok": 1}, {**good, "new": 1}, {**good, "check": None}, {"check": "x"}]
    assert all(faults(each, schema, schema) for each in bad)


def test_the_page_names_every_field() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "cli-json.md").read_text(encoding="utf-8")
    assert f"version {_schema.VERSION}" in page
    fields = {name for line in _schema.LINES.values() for name in line["properties"]}
    assert not [name for name in fields if f"`{name}`" not in page]
