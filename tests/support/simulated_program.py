"""Another program that uses the same simulated PC/SC."""

from __future__ import annotations

from scardface import Protocol, SCardError, ShareMode, SharingViolationError
from scardface.testing import SimulatedPCSC


class Other:
    """Another program on the simulated card, which connects at once."""

    def __init__(self, pcsc: SimulatedPCSC) -> None:
        self.handle = pcsc.establish().connect("A", ShareMode.SHARED, Protocol.T0 | Protocol.T1)

    def is_kept_out(self) -> bool:
        """Whether somebody else holds a transaction."""
        try:
            self.handle.get_attribute(0x00090303)
        except SharingViolationError:
            return True
        except SCardError:
            return False
        return False
