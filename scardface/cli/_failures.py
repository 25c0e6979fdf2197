"""How a command ends: exit statuses, and errors as one sentence.

Rules:

- Every error becomes one sentence on standard error and an exit status. Only in Python's development mode (`python -X dev`) an
  unexpected error is raised with its traceback.
- The reader of a pipe may leave at any time: a broken pipe ends a command silently. Other errors of standard output are reported.
- The standard streams may be closed from the start.
- A sentence names options of the command line, never arguments of Python: see `_option_names`.
- This module needs nothing of the extra.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence, Set
from typing import TypeGuard

from .. import CardTimeoutError, SCardError, ServiceUnavailableError, StatusError
from ..backend import BindingError
from ..replay import UnrecordedCommandError
from ._option_names import in_options
from ._printable import printable

OK = 0
REFUSED = 1
USAGE = 2
PCSC = 3
TIMEOUT = 4
FILE = 5
BUG = 70
INTERRUPTED = 130
BROKEN_PIPE = 141

E_TIMEOUT = 0x8010000A
"""SCARD_E_TIMEOUT: of a ServiceUnavailableError it says that the service does not answer."""
_CANNOT_PRINT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO}

EXITS = {
    OK: "done; for 'send' and 'record': the last status was 9000, or one of '--success'",
    REFUSED: "the card said no (its last status was no success), or 'doctor' found something",
    USAGE: "wrong usage, or the extra 'cli', or the binding that SCARDFACE_BINDING names, is not installed",
    PCSC: "PC/SC failed: no service, no reader, the card was removed or does not answer",
    TIMEOUT: "the time given with --timeout ran out",
    FILE: "a file cannot be read or written, is damaged, or does not hold what was asked of it",
    BUG: "a mistake in scardface itself",
    INTERRUPTED: "interrupted by Ctrl-C",
    BROKEN_PIPE: "the reader of the output went away",
}
"""Exit status to what it means. The last two are as shells have them: 128 and the number of the signal."""


def guarded(call: Callable[[], int | None]) -> int:
    """Run a command; its exit status, also if it fails.

    Args:
        call: the command; None counts as 0.
    """
    if not _has_streams():
        print_error(f"standard output is closed, so there is nowhere to print to; '>{os.devnull}' does without")
        return FILE
    try:
        status = call() or OK
        sys.stdout.flush()
        return status
    except (KeyboardInterrupt, CancelledError):  # the second is how anyio.run() ends on Ctrl-C on Python 3.10 (anyio 4.16)
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)  # it came before the loop's first step
        return INTERRUPTED
    except Exception as failure:
        if isinstance(failure.__cause__, KeyboardInterrupt):  # as a class was made: a RuntimeError up to Python 3.11
            return INTERRUPTED
        if any(map(_is_broken_pipe, _flattened(failure))):
            _discard_output()
            return BROKEN_PIPE
        error = _only_error(failure)
        if sys.flags.dev_mode and status_of(error) == BUG:
            raise
        if _is_of_output(error, _CANNOT_PRINT):
            _discard_output()
            print_error(f"standard output: {error.strerror}")
            return FILE
        print_error(sentence(error))
        return status_of(error)


def _has_streams() -> bool:
    """Whether there is a standard output; closed standard input and error (`2>&-`) are replaced."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  open for the rest of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return sys.stdout is not None


def _flattened(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of errors, and in the groups in it; or the error."""
    inner: Sequence[BaseException] = getattr(error, "exceptions", ())
    if not inner:
        yield error
    for each in inner:
        yield from _flattened(each)


def _is_broken_pipe(error: BaseException) -> bool:
    """Whether the reader of the output went away; Windows reports an invalid argument."""
    return isinstance(error, BrokenPipeError) or (sys.platform == "win32" and _is_of_output(error, {errno.EINVAL}))


def _is_of_output(error: BaseException, codes: Set[int]) -> TypeGuard[OSError]:
    """Whether an error is one of these, and of a stream rather than of PC/SC or a file."""
    return isinstance(error, OSError) and not isinstance(error, SCardError) and error.filename is None and error.errno in codes


def _only_error(error: Exception) -> Exception:
    """The only error in an exception group (from tasks that ran together), or the error itself."""
    inner: Sequence[Exception] = getattr(error, "exceptions", ())
    return _only_error(inner[0]) if len(inner) == 1 else error


def status_of(error: Exception) -> int:
    """The exit status that an error means."""
    if isinstance(error, CardTimeoutError):
        return TIMEOUT
    if isinstance(error, SCardError):
        return PCSC
    if isinstance(error, BindingError):
        return USAGE
    if isinstance(error, StatusError):
        return REFUSED
    if isinstance(error, (OSError, ValueError, UnrecordedCommandError)):  # ValueError: CassetteError, a file that is no text
        return FILE
    return BUG


def sentence(error: Exception) -> str:
    """The sentence for an error."""
    if status_of(error) == BUG:
        return f"this is a mistake in scardface, please report it: {type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ServiceUnavailableError):
        return f"{error}; 'scardface doctor' finds out {'why' if error.code == E_TIMEOUT else 'which'}"
    return in_options(str(error))


def print_error(message: str) -> None:
    """Print a sentence on standard error."""
    with contextlib.suppress(OSError):
        print(f"scardface: {printable(in_options(message))}", file=sys.stderr, flush=True)


def _discard_output() -> None:
    """Discard what is still in standard output's buffer, which the interpreter would complain about at its end."""
    with contextlib.suppress(OSError, ValueError):
        output = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output)
        os.close(nowhere)
