"""The default backend: the one installed last, else the binding to the system's PC/SC that is chosen here.

Rules:

- An acquisition or a monitor asks for it once, when it starts, and keeps it.
- The environment variable SCARDFACE_BINDING chooses the binding. Without it that is pyscard's where it can be imported, else the
  one by ctypes. A chosen binding that is missing is an error; there is no fallback.
- A forked child on Linux has the one by ctypes, which loads a libpcsclite for it, unless the variable says otherwise. pyscard's
  goes on with the parent's, where a lock may be locked for ever (fact 74).
- A binding is loaded on first use, so that importing the library is as light as importing anyio.
- Each binding is one object for the whole process, since all waiting with it is done in one thread.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from .._threads import generation, refuse_green_threads
from ..errors import pip_install
from .backend import Backend

VARIABLE = "SCARDFACE_BINDING"
BINDINGS = ("pyscard", "ctypes")

_installed: list[Backend] = []
_without_pyscard: list[str] = []
"""Why pyscard cannot be imported, once that has been tried."""


class BindingError(ImportError):
    """The binding that was chosen is not there, or there is none of that name; the text says what to do."""


class Binding(NamedTuple):
    """The binding to the system's PC/SC that is used.

    Attributes:
        name: "pyscard" or "ctypes".
        why: why it is that one.
    """

    name: str
    why: str


def default_backend() -> Backend:
    """The backend installed last, else the system's, whose binding is loaded now at the earliest.

    Raises:
        BindingError: SCARDFACE_BINDING names a binding that is not there.
        RuntimeError: threads are gevent's or eventlet's.
    """
    refuse_green_threads()
    return _installed[-1] if _installed else system_pcsc()


def backend_or_default(given: Backend | None) -> Backend:
    """`given`, whatever its truth value is, or the default."""
    return default_backend() if given is None else given


def system_pcsc() -> Backend:
    """The system's PC/SC, whatever is installed; its binding is loaded now at the latest. Raises as `default_backend`."""
    refuse_green_threads()
    return pyscard() if binding().name == "pyscard" else ctypes()


def binding() -> Binding:
    """Which binding to the system's PC/SC is used, and why.

    Raises:
        BindingError: SCARDFACE_BINDING names a binding that is not there.
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen and chosen not in BINDINGS:
        raise BindingError(f"{VARIABLE} is {chosen!r}, which is no binding: set it to pyscard or to ctypes, or unset it")
    if chosen:
        if chosen == "pyscard":
            pyscard()
        return Binding(chosen, f"{VARIABLE} says so")
    if generation() and sys.platform == "linux":
        return Binding("ctypes", "this process was forked, and loads a libpcsclite of its own")
    if not _without_pyscard:
        try:
            pyscard()
        except BindingError as error:
            _without_pyscard.append(str(error.__cause__))
        else:
            return Binding("pyscard", "it can be imported")
    return Binding("ctypes", f"pyscard cannot be imported ({_without_pyscard[0]})")


def pyscard() -> Backend:
    """pyscard's binding.

    Raises:
        BindingError: pyscard cannot be imported.
    """
    try:
        from .pyscard import PYSCARD
    except ImportError as error:
        cure = f"install it ({pip_install('pyscard')}), or set {VARIABLE} to ctypes"
        raise BindingError(f"pyscard was chosen as the binding to PC/SC and cannot be imported ({error}): {cure}") from error
    return PYSCARD


def ctypes() -> Backend:
    """The binding by ctypes. Its library is loaded with the first context."""
    from .ctypes_binding import CTYPES

    return CTYPES


def install(backend: Backend) -> None:
    """Make `backend` the process's default until `uninstall`; the last one installed counts."""
    _installed.append(backend)


def uninstall(backend: Backend) -> None:
    """Undo the last `install` of `backend`."""
    for index in range(len(_installed) - 1, -1, -1):
        if _installed[index] is backend:
            del _installed[index]
            return
    raise RuntimeError("this backend is not installed")
