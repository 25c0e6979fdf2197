"""`scardface schema`: what the lines of `--json` have in them, as JSON Schema (draft 2020-12).

Rules:

- VERSION goes up when a field goes, or means something else. New fields and new values of `event` come without a new version, so
  programs leave alone what they do not know.
- Bytes are pairs of upper-case hexadecimal digits. What may be a secret is null, and `hidden` says so.
- One definition for each kind of line; commands with the same lines share one. tests/cli/test_schema.py holds each command to it.
"""

from __future__ import annotations

import json
from typing import Any

import click

from ._failures import OK

VERSION = 1
_TEXT, _NUMBER, _BOOL = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_TEXTS = {"type": "array", "items": _TEXT}
_HEX = {"type": "string", "pattern": "^([0-9A-F]{2})*$"}
_HEX_OR_NULL = {"type": ["string", "null"], "pattern": "^([0-9A-F]{2})*$"}


def _line(description: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"description": description, "type": "object", "properties": properties, "required": list(required)}


_DATA_OBJECT = _line(
    "A BER-TLV data object: `value`, or `children` if it is constructed.",
    {"tag": _HEX, "name": _TEXT},
    {"value": _HEX, "children": {"type": "array", "items": {"$ref": "#/$defs/data-object"}}},
)
_OBJECTS = {"type": "array", "items": {"$ref": "#/$defs/data-object"}}
_ATR_ROW = _line("Some bytes of an ATR, explained.", {"name": _TEXT, "bytes": _HEX, "meaning": _TEXT})
_EVENTS = ["card-inserted", "card-removed", "reader-added", "reader-removed", "service-down", "service-up", "events-lost"]

LINES: dict[str, dict[str, Any]] = {
    "data-object": _DATA_OBJECT,
    "readers": _line(
        "readers: one line for each reader.",
        {
            "number": _NUMBER,
            "reader": _TEXT,
            "card": {"enum": ["none", "present", "mute", "unpowered", "unreachable"]},
            "atr": _HEX,
            "names": _TEXTS,
            "use": _TEXT,
            "programs": _TEXTS,
        },
    ),
    "reader": {
        **_line("reader: all that one reader says; further fields are its properties and attributes.", {"reader": _TEXT}),
        "additionalProperties": {"type": ["string", "integer", "boolean", "array"]},
    },
    "watch": _line(
        "watch: one line for each event; `time` is in seconds since 1970.",
        {"time": {"type": "number"}, "event": {"enum": _EVENTS}},
        {"reader": _TEXT, "initial": _BOOL, "atr": _HEX, "names": _TEXTS, "count": _NUMBER, "error": _TEXT_OR_NULL},
    ),
    "atr": _line(
        "atr: an ATR, explained; `reader` is null if it was given by hand.",
        {
            "atr": _HEX,
            "reader": _TEXT_OR_NULL,
            "well_formed": _BOOL,
            "protocols": _TEXTS,
            "tck_right": {"type": ["boolean", "null"]},
            "bytes": {"type": "array", "items": _ATR_ROW},
            "names": _TEXTS,
        },
    ),
    "uid": _line("uid: the UID, or with --ats the ATS.", {"reader": _TEXT}, {"uid": _HEX, "ats": _HEX}),
    "reset": _line("reset: what the card answered.", {"reader": _TEXT, "atr": _HEX, "protocol": _TEXT}),
    "exchange": _line(
        "send, shell, record, replay and trace: one line for each command and its response.",
        {
            "reader": _TEXT,
            "command": _TEXT,
            "name": _TEXT,
            "data": _HEX_OR_NULL,
            "length": _NUMBER,
            "text": _TEXT_OR_NULL,
            "sw": {"type": "string", "pattern": "^[0-9A-F]{4}$"},
            "meaning": _TEXT,
            "hidden": _BOOL,
            "tlv": _OBJECTS,
        },
    ),
    "shell": _line(
        "shell, beside exchanges: a line of the help, a row of the ATR, a reset, the channel in use.",
        {},
        {"help": _TEXT, "name": _TEXT, "bytes": _HEX, "meaning": _TEXT, "reset": _BOOL, "atr": _HEX, "channel": _NUMBER},
    ),
    "dir": _line("dir: one line for each application.", {"reader": _TEXT, "aid": _HEX, "label": _TEXT, "path": _HEX}),
    "read": _line(
        "read: a whole file.",
        {
            "reader": _TEXT,
            "data": _HEX,
            "length": _NUMBER,
            "records": {"type": "array", "items": _HEX},
            "complete": _BOOL,
            "stopped": _TEXT,
            "tlv": _OBJECTS,
        },
    ),
    "doctor": _line(
        "doctor: one line for each check, up to the first that found something.",
        {"check": _TEXT, "ok": _BOOL, "words": _TEXT, "cure": _TEXT_OR_NULL},
    ),
    "serve": _line(
        "serve: one line for each thing that happened; `time` is in seconds since 1970.",
        {"time": {"type": "number"}, "message": _TEXT},
    ),
    "demo": _line("demo: one line for each thing that happened.", {"seconds": {"type": "number"}, "text": _TEXT}),
}
"""By the name of the command, or of what several commands have."""

COMMANDS = {"send": "exchange", "record": "exchange", "replay": "exchange", "trace": "exchange"}
"""Commands whose lines have another name."""


def schema_of(name: str | None = None) -> dict[str, Any]:
    """The schema of a command's lines; None: of any line.

    Raises:
        KeyError: there is no such command.
    """
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "scardface --json", "version": VERSION}
    names = ["exchange", "shell"] if name == "shell" else [COMMANDS.get(name or "", name)] if name else list(LINES)[1:]
    wanted = {each: LINES[each] for each in [str(each) for each in names]}
    return {**head, "anyOf": [{"$ref": f"#/$defs/{each}"} for each in wanted], "$defs": {"data-object": _DATA_OBJECT, **wanted}}


@click.command(short_help="Print what the lines of --json have in them.")
@click.argument(
    "command", metavar="[COMMAND]", required=False, type=click.Choice(sorted({*LINES, *COMMANDS} - {"data-object", "exchange"}))
)
def schema(command: str | None) -> int:
    """Print what the lines of --json have in them, as JSON Schema; of one COMMAND, or of all."""
    click.echo(json.dumps(schema_of(command), indent=1))
    return OK
