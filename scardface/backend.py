"""PC/SC behind scardface: the bindings that there are, and what another one has to be.

`SCard(backend=...)` and `ReaderMonitor(backend=...)` take any object that is a `Backend`: a remote reader, a vendor's library, a
simulation. `scardface.testing.conformance` has the tests that it must pass.

The contract, beside what the protocols say of each call:

- Calls block, and are made in threads. One context belongs to one thread at a time, with all handles that it connected; another
  thread may do nothing to it but `cancel` it. Different contexts are used at the same time, and do not wait for each other.
- A call that fails raises what `error_for(code, call, reader)` makes of PC/SC's unsigned code, and nothing else. A context whose
  service went away says so by one of the codes for that (NO_SERVICE, SERVICE_STOPPED, COMM_ERROR, ...), and `establish` works
  again when the service does.
- Bytes are `bytes`. Codes, states, attributes and control codes are unsigned 32-bit numbers.
- A reader's state has the flags of `StateFlag` in its lower half and counts what came and went in its upper half. It is given back
  as it came, but for the flag CHANGED, which counts for nothing; 0 is "nothing is known", which is answered at once.
- Nothing that is needed by one thread is held while another one waits.

Members that a backend may have beside those of `Backend`, and what is taken for granted without them:

- `takes_reader_name(reader) -> bool`: whether readers of this name can be asked about. Without it: those whose names are ASCII.
- `reconnect_ends_transaction: bool`: whether SCardReconnect ends a transaction. Without it: as on this platform.
"""

from __future__ import annotations

from ._enums import StateFlag
from ._pcsc.backend import (
    ATTR_ATR_STRING,
    PNP_READER,
    Backend,
    CardHandle,
    CardStatus,
    Context,
    StatusChange,
    StatusEntry,
    takes_reader_name,
    why_left_out,
)
from ._pcsc.binding_choice import Binding, BindingError, binding, ctypes, default_backend, pyscard
from .errors import error_for

__all__ = [
    "ATTR_ATR_STRING",
    "Backend",
    "Binding",
    "BindingError",
    "CardHandle",
    "CardStatus",
    "Context",
    "Ctypes",
    "PNP_READER",
    "Pyscard",
    "StateFlag",
    "StatusChange",
    "StatusEntry",
    "VERSION",
    "binding",
    "default_backend",
    "error_for",
    "takes_reader_name",
    "why_left_out",
]

VERSION = 1
"""Of the contract. A greater one asks nothing more of a backend: members that come later are optional."""


def Pyscard() -> Backend:
    """The system's PC/SC by pyscard's binding; the same object each time.

    Raises:
        BindingError: pyscard cannot be imported; the text says what to install.
    """
    return pyscard()


def Ctypes() -> Backend:
    """The system's PC/SC by the built-in binding, which calls its library by ctypes; the same object each time.

    A library that is missing or too old is told by `establish`, as a ServiceUnavailableError that says what to install.
    """
    return ctypes()
