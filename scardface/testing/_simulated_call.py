"""A call of the simulated PC/SC that is in progress: how it fails, and how it waits.

Rules:

- Everything happens under the service's lock.
- A call belongs to the life of the service in which it began: when that ends, so does the call, with the code for that (fact 22).
- In some calls libpcsclite itself waits for the end of a transaction, by repeating them every 0.1 s: those find no service then.
"""

from __future__ import annotations

from ..errors import SCardError
from ._simulated_reader import SimulatedReader
from ._simulated_service import SimulatedService


class CallInProgress:
    """See the head of this module.

    Args:
        unplugged: the code for a reader that was unplugged; None: that is no error.
    """

    def __init__(self, call: str, service: SimulatedService, reader: SimulatedReader, unplugged: int | None) -> None:
        self._call = call
        self._service = service
        self._reader = reader
        self._unplugged = unplugged
        self._life = service.life

    def error(self, code: int) -> SCardError:
        """The error that `code` of this call means."""
        return self._service.error(code, self._call, self._reader.name)

    def check(self, unplugged: int | None = None) -> None:
        """Raise an error if the service stopped meanwhile, or the reader was unplugged."""
        if self._life != self._service.life:
            raise self.error(self._service.dialect.wait_lost)
        code = self._unplugged if unplugged is None else unplugged
        if self._reader.unplugged and code is not None:
            raise self.error(code)

    def wait(self) -> None:
        """Wait until something about the reader changes; raises as `check` does."""
        self._reader.changed.wait()
        self.check()

    def wait_and_repeat(self) -> None:
        """As `wait`, for a call that libpcsclite repeats."""
        self._reader.changed.wait()
        if self._life != self._service.life:
            raise self.error(self._service.dialect.session_lost)
        self.check()
