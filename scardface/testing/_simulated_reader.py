"""A reader of the simulated PC/SC: the card that is in it, and what the service knows of that.

Rules:

- All methods are called under the service's lock. Those that talk to the card let go of it meanwhile.
- `card` and `slot` are what is in the reader; `state`, `atr` and `counter` are what the service knows, which is what the driver saw
  when it looked last. Who uses the card is known at once, but only a look of the driver reports it (facts 12 and 13).
- Power, as pcscd has it: a card is switched on when it is seen, stays on while it is used, and is switched off at the second
  turn of the driver after its last user left. The first to connect settles the protocol, until the card is reset or switched off.
- A transaction in which nothing is called for the dialect's time is ended, by a reset, in a thread that lasts as long as it does.
- The lock, as pcscd has it, is counted. An EXCLUSIVE handle holds it once from the start. SCardEndTransaction does not give that
  one back, and making the handle SHARED does not either: then it stays until SCardEndTransaction or SCardDisconnect.
"""

from __future__ import annotations

import contextlib
import enum
import threading
import time
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from .._enums import Protocol, ShareMode
from .._threads import RLock, spawn
from ..errors import NOT_TRANSACTED, PROTO_MISMATCH, RESET_CARD
from ..iso7816._atr import ATR
from ._dialects import Dialect
from ._simulated_slot import CardGone, CardSlot
from ._simulated_status import EXCLUSIVE
from ._virtual_card import VirtualCard

Controls: TypeAlias = "Callable[[int, bytes, Callable[[bytes], bytes]], bytes | None]"
"""What a reader answers to SCardControl: a function of the control code, the data, and a function that exchanges a command with
the card. It runs without the service's lock, and may take its time. None: no such control code."""


class Service(typing.Protocol):
    """The service, as far as its readers need it."""

    dialect: Dialect
    driver_polls: bool
    life: int
    lock: RLock
    running: bool

    def touch(self, reader: SimulatedReader) -> None: ...
    def signal(self) -> None: ...


class Handle(typing.Protocol):
    """A handle, as far as its reader needs it."""

    event: int


class CardState(enum.IntFlag):
    """The lower half of SCardStatus's state on pcsc-lite (pcsclite.h)."""

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
    """It is on and nobody uses it: it goes off at the driver's next turn."""
    GRACE = 2
    """Its last user has left: it is `ON` after the driver's next turn."""
    IN_USE = 3


class SimulatedReader:
    """See the head of this file."""

    def __init__(
        self,
        service: Service,
        name: str,
        attributes: Mapping[int, bytes] | None = None,
        controls: Controls | None = None,
    ) -> None:
        self._service = service
        self.name = name
        self.attributes = dict(attributes or {})
        self.controls = controls
        self.changed = threading.Condition(service.lock)
        """Notified when the lock, or the wire to the card, is free; when somebody came or left; when the card, the reader or the
        service went."""
        self.card: VirtualCard | None = None
        """What is in, whether the service runs or not."""
        self.slot: CardSlot | None = None
        """The same, as the running service can talk to it."""
        self.unplugged = False
        self._looking = False
        self._watch: threading.Event | None = None  # set when nobody need watch for idleness any more
        self._calls = 0  # on the handle that holds the lock, just now
        self._last_call = 0.0
        self._forget()

    def _forget(self) -> None:
        """Know nothing, like a service that was just started."""
        self.state = CardState.ABSENT
        self.atr = b""
        self.protocol = Protocol.UNDEFINED
        self.counter = 0
        self.power = Power.OFF
        self.sharing = 0
        """How many handles share the reader, or EXCLUSIVE."""
        self.handles: set[Handle] = set()
        self.owner: Handle | None = None
        """Who holds the lock."""
        self.locks = 0
        self._stop_watch()
        self._present_seen = False
        self._sharing_seen = 0

    @property
    def present(self) -> bool:
        """Whether the service knows of a card."""
        return self.state != CardState.ABSENT

    @property
    def mute(self) -> bool:
        """Whether that card does not answer."""
        return self.state == MUTE

    # Life.

    def begin_life(self) -> None:
        """The service starts: a card that is in is there from the first, and is not counted (fact 10)."""
        if self.card is not None and self.slot is None:
            self.slot = CardSlot(self.card, self.changed)
            self._present_seen = self._looking = True
            try:
                self._arrive()
                self._service.signal()
            finally:
                self._looking = False
            self.look()

    def end_life(self) -> list[CardSlot]:
        """The service stops, or the reader is unplugged: whoever waits here hears of it. The slot, to be joined."""
        slots = self._empty_slot()
        self._forget()
        self.changed.notify_all()
        return slots

    def _empty_slot(self) -> list[CardSlot]:
        slot, self.slot = self.slot, None
        if slot is None:
            return []
        slot.take_out()
        return [slot]

    # The card's ways.

    def put_in(self, card: VirtualCard) -> None:
        """A card is inserted."""
        self.card = card
        if self._service.running:
            self.slot = CardSlot(card, self.changed)
            self.look_if_polled()

    def take_out(self) -> list[CardSlot]:
        """The card is taken out. The slot, to be joined."""
        self.card = None
        slots = self._empty_slot()
        self.look_if_polled()
        return slots

    # Turns of the driver.

    def look(self) -> None:
        """Notice that a card came or went, and who uses the card."""
        if self._looking or not self._service.running:
            return  # the one that looks just now looks again before it ends
        self._looking, life = True, self._service.life
        try:
            while self._present_seen != (self.slot is not None):
                self._present_seen = not self._present_seen
                if self._present_seen:
                    self._arrive()
                else:
                    self._leave()
                if life != self._service.life:
                    return
                if self._service.dialect.counts_cards:
                    self.counter = (self.counter + 1) & 0xFFFF
                self._service.signal()
        finally:
            self._looking = False
        if self._sharing_seen != self.sharing:
            self._sharing_seen = self.sharing
            self._service.signal()

    def look_if_polled(self) -> None:
        """`look`, if the driver does that by itself."""
        if self._service.driver_polls:
            self.look()

    def turn(self) -> None:
        """One turn of the driver: look, then switch off a card that nobody uses."""
        self.look()
        if self.power is Power.ON:
            self.power = Power.OFF
            self.protocol = Protocol.UNDEFINED
            if self.slot is not None:
                self.slot.power_off()
        elif self.power is Power.GRACE:
            self.power = Power.ON

    def _arrive(self) -> None:
        life = self._service.life
        atr = b""
        while self.slot is not None:
            try:
                atr = self.slot.power_on()
                break
            except CardGone:  # perhaps there is another one already
                continue
        if life == self._service.life:
            self._settle(READY if atr else MUTE, atr)
            self.power = Power.ON if atr else Power.OFF

    def _leave(self) -> None:
        self.tell_handles(self._service.dialect.removed)
        self.owner, self.locks = None, 0
        self._stop_watch()
        self.power = Power.OFF
        self._settle(CardState.ABSENT)
        self.changed.notify_all()

    def _settle(self, state: CardState, atr: bytes | None = b"") -> None:
        """What the service knows of the card from now on; its protocol is to be settled anew. None: the ATR is as it was."""
        self.state, self.protocol = state, Protocol.UNDEFINED
        if atr is not None:
            self.atr = atr
        self._service.touch(self)

    def tell_handles(self, code: int) -> None:
        """Have every handle answer `code` from now on."""
        for handle in self.handles:
            handle.event = code

    # The card.

    def switch_on(self) -> bool:
        """Switch the card on if it was switched off; whether it is ready to be used, which it then is."""
        if self.power is Power.OFF:
            with contextlib.suppress(
                CardGone
            ):  # it is gone, which the driver has not seen: connecting works all the same (fact 28)
                self.atr = self._card().power_on()
                if self.atr:
                    self.state = READY
                self._service.touch(self)
        if self.state != READY:
            return False
        self.power = Power.IN_USE
        return True

    def reset(self, *, cold: bool = False) -> CardState:
        """Reset the card, or switch it off and on (`cold`); what is known of it now. All handles hear of it."""
        self.tell_handles(RESET_CARD)
        life = self._service.life
        state, atr = READY, b""
        try:
            slot = self._card()
            if cold:
                slot.power_off()
                atr = slot.power_on()
            else:
                atr = slot.reset()
            state = READY if atr else MUTE
        except CardGone:
            state = CardState.ABSENT
        if life == self._service.life:
            self._settle(state, atr)
        return state

    def switch_off(self) -> None:
        """Switch the card off. All handles hear of it."""
        self.tell_handles(RESET_CARD)
        self.power = Power.OFF
        if self.slot is None:
            self._settle(CardState.ABSENT)
        else:
            self.slot.power_off()
            self._settle(CardState.PRESENT, None)

    def wait_for_turn(self) -> None:
        """Return when nobody talks to the card."""
        with contextlib.suppress(CardGone):
            self._card().wait_for_turn()

    def exchange(self, command: bytes) -> bytes:
        """The card's answer. Raises CardGone."""
        return self._card().exchange(command)

    def _card(self) -> CardSlot:
        if self.slot is None:
            raise CardGone
        return self.slot

    # Who uses it.

    def is_free_for(self, handle: Handle) -> bool:
        """Whether no other handle holds the lock."""
        return self.owner is None or self.owner is handle

    def take_lock(self, handle: Handle) -> None:
        """Hold the lock once more."""
        self.owner = handle
        self.locks += 1

    @property
    def _base(self) -> int:
        """How often its owner holds the lock without a transaction."""
        return 1 if self.sharing == EXCLUSIVE else 0

    def give_lock_back(self) -> int:
        """Its owner, if there is one, holds the lock once less; the code of PC/SC that this answers."""
        if self.locks <= self._base:
            return NOT_TRANSACTED
        self.locks -= 1
        if self.locks == self._base:
            self._stop_watch()
        if not self.locks:
            self.drop_lock()
        return 0

    def drop_lock(self) -> None:
        """Nobody holds the lock any more."""
        self.owner, self.locks = None, 0
        self._stop_watch()
        self.changed.notify_all()

    @contextlib.contextmanager
    def used_by(self, handle: Handle) -> Iterator[None]:
        """A call on `handle`: it does not idle."""
        counted = handle is self.owner
        self._calls += counted
        try:
            yield
        finally:
            self._calls -= counted
            self._last_call = time.monotonic()

    def watch_for_idleness(self) -> None:
        """A transaction has begun: end it once it idles, where that is the dialect's way."""
        if self._service.dialect.longest_idle and self._watch is None:
            self._watch = threading.Event()
            spawn("simulated-idleness", self._end_idle, self._watch)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.set()
            self._watch = None

    def _end_idle(self, over: threading.Event) -> None:
        longest = left = self._service.dialect.longest_idle
        while not over.wait(left):
            with self._service.lock:
                left = longest if self._calls else self._last_call + longest - time.monotonic()
                if left <= 0 and not over.is_set():
                    self._stop_watch()
                    self.locks = self._base
                    self.reset()
                    if not self._base:
                        self.drop_lock()
                    return

    def share(self, sharing: int) -> None:
        """So many handles use the reader from now on, or one alone."""
        self.sharing = sharing
        self._service.touch(self)
        self.look_if_polled()
        self.changed.notify_all()

    def is_for_one(self, share: ShareMode) -> bool:
        """Whether who shares like that shares with nobody."""
        return share is ShareMode.EXCLUSIVE or (share is ShareMode.DIRECT and self._service.dialect.direct_is_exclusive)

    def part(self, handle: Handle) -> None:
        """A handle is closed. If it was the last one, the card's time to be switched off begins."""
        if handle not in self.handles:
            return  # this reader has forgotten it, since it was unplugged or the service stopped
        self.handles.discard(handle)
        self.share(0 if self.sharing == EXCLUSIVE else max(0, self.sharing - 1))
        if not self.sharing and self.power is not Power.OFF:
            self.power = Power.GRACE

    def settle_protocol(self, share: ShareMode, protocols: Protocol) -> int:
        """Agree on one of `protocols`, T=1 before T=0; the code of PC/SC that this answers (fact 27)."""
        if protocols & Protocol.RAW:
            self.protocol = Protocol.RAW
        elif share is not ShareMode.DIRECT:
            if not self.protocol:
                offered = ATR(self.atr).protocols & protocols
                self.protocol = next((one for one in (Protocol.T1, Protocol.T0) if offered & one), Protocol.UNDEFINED)
            if not self.protocol & protocols:
                return PROTO_MISMATCH
        return 0
