"""The serial numbers of readers. Blocking; in a context of its own.

Rules:

- If the driver puts the number into the reader's name, in parentheses before the two indexes as with pcsc-lite, it is taken from
  there.
- Any other reader is asked (VENDOR_IFD_SERIAL_NO, PC/SC part 3, 3.1.1). For this it is opened DIRECT, which needs no card and does
  not affect one. A reader that another program has opened exclusively cannot be asked; then its last answer under that name counts.
- If the driver does not know the number, or fails, the reader has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .._enums import Disposition, Protocol, ShareMode
from .._pcsc.backend import Backend, Context
from .._reader.attributes import Attribute, decode_attribute
from ..errors import SHARING_VIOLATION, SCardError, ServiceUnavailableError
from .card_errors import best_effort

_IN_NAME = re.compile(r"\(([^()]+)\) \d\d \d\d$")


def serial_numbers(backend: Backend, cache: dict[str, str]) -> dict[str, str | None]:
    """The serial number of each reader by its name, in PC/SC's order; "": it has none; None: it is held, and never told it before.

    Args:
        cache: earlier answers of the readers of this PC/SC, by name; updated.
    """
    context = backend.establish()
    try:
        names = context.list_readers()
        for name in cache.keys() - set(names):
            cache.pop(name, None)
        return {name: _serial_of(name, context, backend, cache) for name in names}
    finally:
        best_effort(context.release)


def has_serial(serial: str, reader: str, get_attribute: Callable[[int], bytes]) -> bool:
    """Whether the open reader has this serial number; True if the reader cannot say.

    Args:
        get_attribute: asks that reader for an attribute.
    """
    in_name = _IN_NAME.search(reader)
    if in_name is not None:
        return in_name[1] == serial
    try:
        return _text(get_attribute(Attribute.VENDOR_IFD_SERIAL_NO)) == serial
    except SCardError:  # it gave this number before it was opened
        return True


def _serial_of(name: str, context: Context, backend: Backend, cache: dict[str, str]) -> str | None:
    in_name = _IN_NAME.search(name)
    if in_name is not None:
        return in_name[1]
    try:
        cache[name] = _ask(name, context, backend)
    except ServiceUnavailableError:  # that says nothing about the reader
        raise
    except SCardError as error:
        if error.code != SHARING_VIOLATION:
            return ""
    return cache.get(name)


def _ask(name: str, context: Context, backend: Backend) -> str:
    handle = context.connect(name, ShareMode.DIRECT, Protocol.UNDEFINED)
    try:
        return _text(handle.get_attribute(Attribute.VENDOR_IFD_SERIAL_NO))
    finally:
        if not backend.release_disconnects:
            best_effort(lambda: handle.disconnect(Disposition.LEAVE))


def _text(number: bytes) -> str:
    return str(decode_attribute(Attribute.VENDOR_IFD_SERIAL_NO, number)).strip()
