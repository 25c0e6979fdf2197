"""`scardface read` and `scardface dir`: files of an ISO card.

Rules:

- A file is named by its identifier or by its path from the MF, in hexadecimal digits: `2F00`, `3F005000 0001`.
- What was read is printed also if reading ended before the end of the file, and the exit status is 1 then, with the reason.
- Where the card wants a PIN first, the error says how one is verified and the file read then. This command asks for none: which PIN
  that would be, and whether it is a PIN that opens the file, only the user knows.
- Contents of files may be personal; they are printed, since that is what was asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from .. import R_APDU, StatusError, iso7816
from ..iso7816._readable import digits, is_text, legible
from ..sync import SCard
from ._exchanges import data_objects, node, tree
from ._failures import OK, REFUSED, print_error
from ._open import open_card, uninterrupted
from ._options import CardChoice, card_choice, common
from ._output import console, print_json, print_line, print_table, rows

_DIRECTORY = 0x2F00
"""EF.DIR (ISO/IEC 7816-4:2020, 12.2.1)."""
LONGEST_PATH = 64
_MF = b"\x3f\x00"
_SECURITY_STATUS = 0x6982
"""Security status not satisfied (ISO/IEC 7816-4:2020, table 6)."""


class _Octets(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in newer releases alone
    """Bytes in hexadecimal digits."""

    name = "HEX"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            octets = bytes.fromhex(value.replace(":", " "))
        except ValueError:
            self.fail(f"{value!r} is not in pairs of hexadecimal digits, as 2F00 is", param, context)
        if not 1 <= len(octets) <= LONGEST_PATH:
            self.fail(f"{value!r} has {len(octets)} bytes, and 1 to {LONGEST_PATH} make sense", param, context)
        return octets


HEX = _Octets()
_SELECT = "Select this application first, by its name (AID)."


@click.command()
@click.argument("file", metavar="FILE", type=HEX)
@click.option("--select", "application", metavar="AID", type=HEX, help=_SELECT)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the bytes here; '-': standard output.",
)
@card_choice
@common
def read(file: bytes, application: bytes | None, output: Path | None, choice: CardChoice, as_json: bool) -> int:
    """Read a whole file of a card, transparent or of records.

    FILE is its identifier (2F00), or its path from the MF (50000001), in hexadecimal digits. No PIN is asked for: where the card
    wants one, the error says how 'scardface send' verifies it and reads the file.
    """
    if len(file) % 2:
        raise click.BadParameter("a file identifier has two bytes, and so has each of a path", param_hint="FILE")
    with open_card(choice) as card, uninterrupted(card, choice):
        try:
            _select(card, application)
            contents = iso7816.read_file(card, file)
        except ValueError as error:  # a DF
            raise click.UsageError(f"{digits(file)}: {error}") from None
        except StatusError as error:
            print_error(f"{error}{_way_with_pin(error.response, application, file)}")
            return REFUSED
        reader = card.reader
    if output is not None:
        if str(output) == "-":
            sys.stdout.buffer.write(contents)
            sys.stdout.buffer.flush()
        else:
            output.write_bytes(contents)
    elif as_json:
        print_json(
            reader=reader,
            data=contents.hex().upper(),
            length=len(contents),
            records=[record.hex().upper() for record in contents.records],
            complete=contents.complete,
            stopped=contents.stopped,
            tlv=[node(each, None) for each in data_objects(contents)],
        )
    else:
        _print(contents)
    if contents.stopped:
        print_error(f"reading ended {contents.stopped}{_way_with_pin(contents.response, application, file)}")
    return OK if contents.complete else REFUSED


def _way_with_pin(response: R_APDU, application: bytes | None, file: bytes) -> str:
    """How to read a file for which the card wants a PIN first; nothing if it does not want one."""
    if response.sw != _SECURITY_STATUS:
        return ""
    commands = [
        *([f"select 04 00 {application.hex().upper()}"] if application else []),
        "verify 00 01 PIN",
        f"select 00 00 {file.hex().upper()}" if len(file) == 2 else f"select 08 00 {file.removeprefix(_MF).hex().upper()}",
        "read-binary 00 00",
    ]
    words = " ".join(f"'{command}'" for command in commands)
    return f"; if a PIN opens it (here number 01): scardface send --pin-prompt {words}, or the same lines in 'scardface shell'"


def _print(contents: iso7816.FileContents) -> None:
    screen = console()
    for number, record in enumerate(contents.records, 1):
        print_line(screen, f"record {number}, {len(record)} bytes", "cyan")
        for row in rows(record):
            print_line(screen, f"  {row}")
    if not contents.records:
        for row in rows(contents):
            print_line(screen, row)
    objects = data_objects(contents)
    if objects:
        print_table(screen, tree(objects))


@click.command("dir")
@card_choice
@common
def directory(choice: CardChoice, as_json: bool) -> int:
    """List the applications of a card, as its EF.DIR has them."""
    with open_card(choice) as card, uninterrupted(card, choice):
        contents = iso7816.read_file(card, _DIRECTORY)
        reader = card.reader
    for application in applications(contents):
        if as_json:
            print_json(reader=reader, **{name: _text(name, value) for name, value in application.items()})
        else:
            label, path = application["label"], application["path"]
            words = [digits(application["aid"]), legible(label) if label else "", f"path {digits(path)}" if path else ""]
            print_line(console(), "   ".join(word for word in words if word))
    if contents.stopped:
        print_error(f"reading EF.DIR ended {contents.stopped}")
    return OK if contents.complete else REFUSED


def applications(contents: bytes) -> Iterator[dict[str, bytes]]:
    """The applications in an EF.DIR (ISO/IEC 7816-4:2020, 12.2.1): identifier, label and path of each; empty: it has none."""
    try:
        objects = iso7816.parse_tlv(contents)
    except iso7816.TLVError:
        return
    for each in objects:
        inside = each.children if each.number == 0x61 else (each,) if each.number == 0x4F else ()
        found = {name: next((one.value for one in inside if one.number == tag), b"") for name, tag in _PARTS.items()}
        if found["aid"]:
            yield found


_PARTS = {"aid": 0x4F, "label": 0x50, "path": 0x51}


def _text(name: str, value: bytes) -> str:
    return value.decode() if name == "label" and is_text(value) else value.hex().upper()


def _select(card: SCard, application: bytes | None) -> None:
    """Raises StatusError if the card has no such application."""
    if application is not None:
        card.send(iso7816.select(application)).check()
