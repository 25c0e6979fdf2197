"""Showing what went to a card and what came back.

Rules:

- A command is written as it can be typed, and as cassettes have it: header, data, Ne.
- Data that may be a PIN or a key are not shown, neither the command's nor the response's, unless somebody asks: it is the rule that
  the library's own trace keeps (`may_carry_secret`).
- An answer is shown as hex and text, and as a tree where it is most likely BER-TLV.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.tree import Tree

from .. import C_APDU, R_APDU
from ..contactless import meaning
from ..iso7816._instructions import name_of
from ..iso7816._readable import digits, is_text, legible
from ..iso7816._tags import is_likely
from ..iso7816._tags import name_of as name_of_tag
from ..iso7816._tlv import DataObject, TLVError, parse
from ..replay import may_carry_secret
from ._option_names import in_options
from ._options import Telling
from ._output import emit, put, rows, show, words


def tell(telling: Telling, console: Console, reader: str, command: C_APDU, response: R_APDU) -> None:
    """Show an exchange."""
    hidden = may_carry_secret(command) and not telling.secrets
    objects = () if hidden else data_objects(response.data)
    if telling.json:
        emit(**_fields(reader, command, response, hidden), tlv=[_node(each, None) for each in objects])
        return
    name = name_of(command)
    put(console, f"> {notation(command, hidden)}" + (f"   {name}" if name else ""), "cyan")
    if hidden and response.data:
        put(console, f"  <{len(response.data)} bytes>, which --show-secrets shows", "dim")
    elif response.data:
        for row in rows(response.data):
            put(console, f"  {row}")
        if objects:
            show(console, tree(objects))
    put(console, f"< {response.sw:04X} {in_options(meaning(command, response))}", "green" if response.is_successful() else "red")


def notation(command: C_APDU, hidden: bool) -> str:
    """A command as it can be typed."""
    header = bytes((command.cla, command.ins, command.p1, command.p2)).hex().upper()
    data = f"<{len(command.data)} bytes>" if hidden else command.data.hex().upper()
    return " ".join(part for part in (header, data if command.data else "", f"Ne={command.le}" if command.le else "") if part)


def _fields(reader: str, command: C_APDU, response: R_APDU, hidden: bool) -> dict[str, Any]:
    return {
        "reader": reader,
        "command": notation(command, hidden),
        "name": name_of(command),
        "data": None if hidden and response.data else response.data.hex().upper(),
        "length": len(response.data),
        "text": response.data.decode() if not hidden and is_text(response.data) else None,
        "sw": f"{response.sw:04X}",
        "meaning": in_options(meaning(command, response)),
        "hidden": hidden and bool(command.data or response.data),
    }


def data_objects(data: bytes) -> tuple[DataObject, ...]:
    """The data objects in an answer, if it is most likely some."""
    try:
        objects = parse(data, known=lambda tag: name_of_tag(tag) != "")
    except TLVError:
        return ()
    return objects if is_likely(objects) else ()


def tree(objects: tuple[DataObject, ...]) -> Tree:
    """Data objects as a tree."""
    root = Tree("", hide_root=True)
    for each in objects:
        _grow(root, each, None)
    return root


def _grow(branch: Tree, each: DataObject, parent: bytes | None) -> None:
    name = name_of_tag(each.tag, parent)
    label = f"{each.tag.hex().upper()} {name}".rstrip()
    if each.children:
        twig = branch.add(words(label))
        for child in each.children:
            _grow(twig, child, each.tag)
        return
    value = f": {digits(each.value)}" if each.value else ", empty"
    text = f' "{legible(each.value)}"' if is_text(each.value) else ""
    damage = f" ({each.damage})" if each.damage else ""
    branch.add(words(f"{label}{value}{text}{damage}"))


def _node(each: DataObject, parent: bytes | None) -> dict[str, Any]:
    node: dict[str, Any] = {"tag": each.tag.hex().upper(), "name": name_of_tag(each.tag, parent)}
    if each.children:
        return {**node, "children": [_node(child, each.tag) for child in each.children]}
    return {**node, "value": each.value.hex().upper()}
