"""The default backend: the one installed last, else pyscard's.

It is chosen when an acquisition or a monitor starts, and kept by that one. The binding is loaded when it is first needed, so that
importing the library is as light as importing anyio.
"""

from __future__ import annotations

from .._threads import refuse_green_threads
from .backend import Backend

_installed: list[Backend] = []


def default_backend() -> Backend:
    """The backend installed last, else pyscard's, which is loaded now if it is not yet.

    Raises:
        RuntimeError: threads are gevent's or eventlet's.
    """
    refuse_green_threads()
    return _installed[-1] if _installed else system_pcsc()


def backend_or_default(given: Backend | None) -> Backend:
    """`given` if it is not None, else the default."""
    return default_backend() if given is None else given


def system_pcsc() -> Backend:
    """pyscard's backend, whatever is installed; its binding is loaded now if it is not yet."""
    refuse_green_threads()
    from .pyscard import PYSCARD

    return PYSCARD


def install(backend: Backend) -> None:
    """Make `backend` the default of this process until `uninstall`; the last one installed counts."""
    _installed.append(backend)


def uninstall(backend: Backend) -> None:
    """Undo the last `install` of `backend`."""
    for index in range(len(_installed) - 1, -1, -1):
        if _installed[index] is backend:
            del _installed[index]
            return
    raise RuntimeError("this backend is not installed")
