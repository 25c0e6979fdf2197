"""A reader of the simulated PC/SC: the card that is in it, and what the service knows of that.

Rules of this room:

- `slot` is what is in the reader; `present`, `state`, `atr`, `counter` are what the service knows, which is what the driver saw when
  it looked last. Who uses the card is known at once, but only a look of the driver reports it (facts 12 and 13).
- A card's code runs in a thread of that card's own, one call at a time, never under the service's lock. Taking the card out, unplugging the
  reader or stopping the service frees whoever waits for it, however long the code takes.
- Rules of pcscd (winscard.c, readerfactory.c, eventhandler.c; tried out on 1.9.9): a card is switched on when it is seen, stays on
  while it is used, and is switched off at the second look of the driver after its last user left. The protocol is settled by
  the first to connect, until the card is reset or switched off.
- The lock is counted. An EXCLUSIVE handle holds it once from the start, and that one is not given back by SCardEndTransaction, nor
  when the handle is made SHARED: there it stays until SCardEndTransaction or SCardDisconnect.
- Methods whose name begins with an underscore, and all others but `Slot`'s, are called under the service's lock. Those that talk
  to the card let go of it meanwhile.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from .._atr import ATR
from .._enums import Protocol
from .._threads import Worker
from . import _card_calls
from ._simulated_status import EXCLUSIVE
from ._virtual_card import VirtualCard

if TYPE_CHECKING:
    from ._simulated_handle import SimulatedHandle
    from ._simulated_service import SimulatedService

T = TypeVar("T")


class CardState(enum.IntFlag):
    """The lower half of SCardStatus's state on pcsc-lite (pcsclite.h)."""

    UNPLUGGED = 0x00
    ABSENT = 0x02
    PRESENT = 0x04
    SWALLOWED = 0x08
    POWERED = 0x10
    NEGOTIABLE = 0x20


READY = CardState.PRESENT | CardState.POWERED | CardState.NEGOTIABLE
MUTE = CardState.PRESENT | CardState.SWALLOWED


class Power(enum.IntEnum):
    """What the service does about a card's power."""

    OFF = 0
    ON = 1
    """It is on and nobody uses it: it goes off at the driver's next look."""
    GRACE = 2
    """Its last user has left: it is `ON` after the driver's next look."""
    IN_USE = 3


class Interrupted(Exception):
    """The card was taken out, the reader unplugged or the service stopped while the card was spoken to."""


class Slot:
    """A card that is in, and the thread that its code runs in."""

    def __init__(self, card: VirtualCard) -> None:
        self.card = card
        self.powered = False
        self.worker = Worker(f"scardface-{type(card).__name__}")

    def finish(self) -> None:
        """The card is out: it loses its power, and its thread ends when its code has returned."""
        self.switch_off()
        self.worker.finish()

    def switch_off(self) -> None:
        """Take the card's power; nobody waits for that."""
        if self.powered:
            self.powered = False
            self.worker.submit(lambda: _card_calls.power_off(self.card))


class _Exchange(Generic[T]):
    """One call of a card's code."""

    def __init__(self) -> None:
        self.done = False
        self.result: T


class SimulatedReader:
    """See the head of this file."""

    def __init__(self, service: SimulatedService, name: str) -> None:
        self._service = service
        self.name = name
        self.changed = threading.Condition(service.lock)
        """Notified when the lock, or the wire to the card, is free; when the card, the reader or the service went."""
        self.slot: Slot | None = None
        self.unplugged = False
        self._talking: _Exchange[bytes] | _Exchange[None] | None = None
        self._looking = False
        self._forget()

    def _forget(self) -> None:
        """Know nothing, like a service that has just been started."""
        self.state = CardState.ABSENT
        self.atr = b""
        self.protocol = Protocol.UNDEFINED
        self.counter = 0
        self.power = Power.OFF
        self.sharing = 0
        self.handles: set[SimulatedHandle] = set()
        self.owner: SimulatedHandle | None = None
        self.locks = 0
        self._present_seen = False
        self._sharing_seen = 0

    @property
    def present(self) -> bool:
        """Whether the service knows of a card."""
        return bool(self.state & CardState.PRESENT)

    @property
    def mute(self) -> bool:
        """Whether that card does not answer."""
        return bool(self.state & CardState.SWALLOWED)

    # Looks of the driver.

    def look(self) -> None:
        """Notice that a card came or went, and who uses it."""
        if self._looking or not self._service.running:
            return  # the one that looks looks again before it ends
        self._looking = True
        try:
            while self._service.running and self._present_seen != (self.slot is not None):
                self._present_seen = self.slot is not None
                if self._present_seen:
                    self._arrived()
                else:
                    self._left()
        finally:
            self._looking = False
        self._look_at_use()

    def look_if_polled(self) -> None:
        """`look`, if the driver does so by itself."""
        if self._service.driver_polls:
            self.look()

    def poll(self) -> None:
        """One turn of the driver: look; then switch off a card that nobody uses."""
        self.look()
        if self.power is Power.ON:
            self.power = Power.OFF
            self.protocol = Protocol.UNDEFINED
            if self.slot is not None:
                self.slot.switch_off()
        elif self.power is Power.GRACE:
            self.power = Power.ON

    def _arrived(self) -> None:
        life = self._service.life
        atr = self.switch_on()
        if life != self._service.life:
            return
        self._settle(READY if atr else MUTE, atr)
        self.power = Power.ON if atr else Power.OFF
        self._count()

    def _left(self) -> None:
        self.tell_handles(self._service.dialect.removed)
        self.owner, self.locks = None, 0
        self.power = Power.OFF
        self._settle(CardState.ABSENT, b"")
        self._count()
        self.changed.notify_all()

    def _count(self) -> None:
        if self._service.dialect.counts_cards and self._service.counting(self):
            self.counter = (self.counter + 1) & 0xFFFF
        self._service.signal()

    def _look_at_use(self) -> None:
        if self._sharing_seen != self.sharing:
            self._sharing_seen = self.sharing
            self._service.signal()

    # The card.

    def talk(self, job: Callable[[VirtualCard], T]) -> T:
        """Have the card's code called in its thread, after whoever talks to the card just now.

        Raises:
            Interrupted: there is no card, or there is none any more; the code may run on.
        """
        slot, life = self._here()
        while self._talking is not None and self._is_here(slot, life):
            self.changed.wait()
        if not self._is_here(slot, life):
            raise Interrupted
        exchange: _Exchange[T] = _Exchange()
        self._talking = exchange  # type: ignore[assignment]  # only its identity matters here
        slot.worker.submit(lambda: self._run(exchange, job, slot.card))
        try:
            while not exchange.done and self._is_here(slot, life):
                self.changed.wait()
        finally:
            if self._talking is exchange:
                self._talking = None
                self.changed.notify_all()
        if not exchange.done:
            raise Interrupted
        return exchange.result
