"""Printing commands and responses.

Rules:

- A command is printed as it can be entered, and as in cassettes: header, data, Ne; with Ne=0 if it would be taken for another
  without.
- Data that may be a PIN or a key is not printed, neither the command's nor the response's, without `--show-secrets`: the rule is
  that of the library's trace (`may_carry_secret`).
- Response data is printed as hex and text, and as a tree if it most likely is BER-TLV.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.tree import Tree

from .. import C_APDU, R_APDU
from ..contactless import meaning
from ..iso7816 import DataObject, TLVError, instruction_name, parse_tlv, tag_name
from ..iso7816._instructions import usual_ne
from ..iso7816._readable import digits, is_text, legible
from ..iso7816._tags import is_likely
from ..replay import may_carry_secret
from ._apdu_text import needs_ne
from ._option_names import in_options
from ._options import OutputOptions
from ._output import as_text, print_json, print_line, print_table, rows

_WRONG_LENGTH = 0x6700


def print_exchange(output: OutputOptions, console: Console, reader: str, command: C_APDU, response: R_APDU) -> None:
    """Print one command and its response."""
    hidden = may_carry_secret(command) and not output.secrets
    objects = () if hidden else data_objects(response.data)
    if output.json:
        print_json(**_fields(reader, command, response, hidden), tlv=[node(each, None) for each in objects])
        return
    name = instruction_name(command)
    print_line(console, f"> {notation(command, hidden)}" + (f"   {name}" if name else ""), "cyan")
    if hidden and response.data:
        print_line(console, f"  <{len(response.data)} bytes>, which --show-secrets shows", "dim")
    elif response.data:
        for row in rows(response.data):
            print_line(console, f"  {row}")
        if objects:
            print_table(console, tree(objects))
    status = f"< {response.sw:04X} {in_options(meaning(command, response))}{_lacks_ne(command, response)}"
    print_line(console, status, "green" if response.is_successful() else "red")


def _lacks_ne(command: C_APDU, response: R_APDU) -> str:
    """What to add to a command that was answered with "wrong length", if it has neither data nor Ne and usually has the latter."""
    if response.sw != _WRONG_LENGTH or command.data or command.le or not usual_ne(command.cla, command.ins, command.p1, command.p2):
        return ""
    return " (it has no Le; Ne=256 behind it asks for what there is)"


def notation(command: C_APDU, hidden: bool) -> str:
    """A command as it can be entered."""
    header = bytes((command.cla, command.ins, command.p1, command.p2)).hex().upper()
    data = f"<{len(command.data)} bytes>" if hidden else command.data.hex().upper()
    says_ne = command.le or (command.data and not hidden and needs_ne(command))
    return " ".join(part for part in (header, data if command.data else "", f"Ne={command.le}" if says_ne else "") if part)


def _fields(reader: str, command: C_APDU, response: R_APDU, hidden: bool) -> dict[str, Any]:
    return {
        "reader": reader,
        "command": notation(command, hidden),
        "name": instruction_name(command),
        "data": None if hidden and response.data else response.data.hex().upper(),
        "length": len(response.data),
        "text": response.data.decode() if not hidden and is_text(response.data) else None,
        "sw": f"{response.sw:04X}",
        "meaning": in_options(meaning(command, response)),
        "hidden": hidden and bool(command.data or response.data),
    }


def data_objects(data: bytes) -> tuple[DataObject, ...]:
    """The data objects in response data, if it most likely is BER-TLV."""
    try:
        objects = parse_tlv(data, known=lambda tag: tag_name(tag) != "")
    except TLVError:
        return ()
    return objects if is_likely(objects) else ()


def tree(objects: tuple[DataObject, ...]) -> Tree:
    """Data objects as a tree."""
    root = Tree("", hide_root=True)
    for each in objects:
        _add_object(root, each, None)
    return root


def _add_object(branch: Tree, each: DataObject, parent: bytes | None) -> None:
    name = tag_name(each.tag, parent)
    label = f"{each.tag.hex().upper()} {name}".rstrip()
    if each.children:
        node = branch.add(as_text(label))
        for child in each.children:
            _add_object(node, child, each.tag)
        return
    value = f": {digits(each.value)}" if each.value else ", empty"
    text = f' "{legible(each.value)}"' if is_text(each.value) else ""
    damage = f" ({each.damage})" if each.damage else ""
    branch.add(as_text(f"{label}{value}{text}{damage}"))


def node(each: DataObject, parent: bytes | None) -> dict[str, Any]:
    """A data object as JSON has it; `parent` is the tag of the one that contains it."""
    fields: dict[str, Any] = {"tag": each.tag.hex().upper(), "name": tag_name(each.tag, parent)}
    if each.children:
        return {**fields, "children": [node(child, each.tag) for child in each.children]}
    return {**fields, "value": each.value.hex().upper()}
