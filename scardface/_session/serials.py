"""Which readers have a serial number. Blocking; in a context of its own.

Rules of this room:

- Where the driver puts the number into the name, in parentheses before the two indexes as pcsc-lite does, the name is believed.
- Any other reader is asked (VENDOR_IFD_SERIAL_NO, PC/SC part 3, 3.1.1), for which it is opened DIRECT: without a card, without
  touching one. One that somebody has for himself cannot be asked; then what it said last time under that name counts.
- A driver that does not know the number, or fails, is a reader without one.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .._enums import Disposition, Protocol, ShareMode
from .._pcsc.backend import Backend, Context
from .._reader.attributes import Attribute, decode_attribute
from ..errors import SHARING_VIOLATION, SCardError
from .card_state import best_effort

_IN_NAME = re.compile(r"\(([^()]+)\) \d\d \d\d$")


def serial_numbers(backend: Backend, told: dict[str, str]) -> dict[str, str]:
    """The serial number of each reader by its name, in PC/SC's order; "" where it is not known.

    Args:
        told: what the readers of this PC/SC have said before, by name; kept up to date.
    """
    context = backend.establish()
    try:
        names = context.list_readers()
        for name in told.keys() - set(names):
            told.pop(name, None)
        return {name: _serial_of(name, context, backend, told) for name in names}
    finally:
        best_effort(context.release)


def has_serial(serial: str, reader: str, get_attribute: Callable[[int], bytes]) -> bool:
    """Whether the reader that is open has this serial number, as far as it can be told.

    Args:
        get_attribute: asks that reader.
    """
    in_name = _IN_NAME.search(reader)
    if in_name is not None:
        return in_name[1] == serial
    try:
        return _text(get_attribute(Attribute.VENDOR_IFD_SERIAL_NO)) == serial
    except SCardError:  # it has said so before it was opened
        return True


def _serial_of(name: str, context: Context, backend: Backend, told: dict[str, str]) -> str:
    in_name = _IN_NAME.search(name)
    if in_name is not None:
        return in_name[1]
    try:
        serial = told[name] = _ask(name, context, backend)
    except SCardError as error:
        serial = told.get(name, "") if error.code == SHARING_VIOLATION else ""
    return serial


def _ask(name: str, context: Context, backend: Backend) -> str:
    handle = context.connect(name, ShareMode.DIRECT, Protocol.UNDEFINED)
    try:
        return _text(handle.get_attribute(Attribute.VENDOR_IFD_SERIAL_NO))
    finally:
        if not backend.release_disconnects:
            best_effort(lambda: handle.disconnect(Disposition.LEAVE))


def _text(number: bytes) -> str:
    return str(decode_attribute(Attribute.VENDOR_IFD_SERIAL_NO, number)).strip()
