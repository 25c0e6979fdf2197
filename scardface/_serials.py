"""Which readers have a serial number. Blocking; in a context of its own.

Rules of this room:

- Where the driver puts the number into the name, in parentheses before the two indexes as pcsc-lite does, the name is believed.
- Any other reader is asked (VENDOR_IFD_SERIAL_NO, PC/SC part 3, 3.1.1), for which it is opened DIRECT: without a card, without
  touching one. One that somebody has for himself cannot be asked; then what it said last time under that name counts.
- A driver that does not know the number, or fails, is a reader without one.
"""

from __future__ import annotations

import re
import threading
import weakref

from ._attributes import Attribute, reading
from ._backend import Backend, Context
from ._enums import Disposition, Protocol, ShareMode
from ._loss import quietly
from ._threads import forget_at_fork
from .errors import SHARING_VIOLATION, SCardError

_IN_NAME = re.compile(r"\(([^()]+)\) \d\d \d\d$")

_lock = threading.Lock()
_told: weakref.WeakKeyDictionary[Backend, dict[str, str]] = weakref.WeakKeyDictionary()


def readers_with(serial: str, backend: Backend) -> frozenset[str]:
    """The names of the readers with this serial number; more than one where a device shows up as several."""
    context = backend.establish()
    try:
        return frozenset(name for name in context.list_readers() if _serial_of(name, context, backend) == serial)
    finally:
        quietly(context.release)


def _serial_of(name: str, context: Context, backend: Backend) -> str:
    in_name = _IN_NAME.search(name)
    if in_name is not None:
        return in_name[1]
    with _lock:
        told = _told.setdefault(backend, {})
    try:
        serial = told[name] = _ask(name, context, backend)
    except SCardError as error:
        serial = told.get(name, "") if error.code == SHARING_VIOLATION else ""
    return serial


def _ask(name: str, context: Context, backend: Backend) -> str:
    handle = context.connect(name, ShareMode.DIRECT, Protocol.UNDEFINED)
    try:
        return str(reading(Attribute.VENDOR_IFD_SERIAL_NO, handle.get_attribute(Attribute.VENDOR_IFD_SERIAL_NO))).strip()
    finally:
        if not backend.release_disconnects:
            quietly(lambda: handle.disconnect(Disposition.LEAVE))


def _forget() -> None:
    global _lock, _told
    _lock = threading.Lock()
    _told = weakref.WeakKeyDictionary()


forget_at_fork(_forget)
