"""A reader of the simulated PC/SC: the card that is in it, and what the service knows of the card.

Rules:

- All methods are called under the service's lock. Those that exchange with the card release it meanwhile.
- `card` and `slot` are what is in the reader; `state`, `atr` and `counter` are what the service knows, as the driver found it at
  its last poll. Who uses the card is known at once, but reported only at a poll of the driver (facts 12 and 13).
- Power, as in pcscd: a card is switched on when it is found, stays on while it is used, and is switched off at the second cycle of
  the driver after its last user has left. The first connect negotiates the protocol, which stays until a reset or power-off.
- A transaction without calls for the dialect's time is ended, by a reset, in a thread that runs as long as the transaction.
- The lock is counted, as in pcscd. An EXCLUSIVE handle holds it once from the start. SCardEndTransaction does not release that one;
  if the handle is made SHARED, it stays until SCardEndTransaction or SCardDisconnect.
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
from ._simulated_slot import CardSlot, SlotEmptyError
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

    def mark_changed(self, reader: SimulatedReader) -> None: ...
    def wake_calls(self) -> None: ...


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
    """It is on and nobody uses it: it is switched off at the driver's next cycle."""
    GRACE = 2
    """Its last user has left: it is `ON` after the driver's next cycle."""
    IN_USE = 3


class SimulatedReader:
    """See the head of this module."""

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
        """Notified when the lock, or the card, is free; when a handle was opened or closed; when the card, the reader or the
        service has gone."""
        self.card: VirtualCard | None = None
        """The card in the reader, whether the service runs or not."""
        self.slot: CardSlot | None = None
        """The same card, as the running service uses it."""
        self.unplugged = False
        self._polling = False
        self._idle_timer: threading.Event | None = None  # set when the transaction has ended
        self._calls = 0  # in progress, on the handle that holds the lock
        self._last_call = 0.0
        self._forget()

    def _forget(self) -> None:
        """The state of a service that was just started."""
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
        self._stop_idle_timer()
        self._present_reported = False
        self._sharing_reported = 0

    @property
    def present(self) -> bool:
        """Whether the service has found a card."""
        return self.state != CardState.ABSENT

    @property
    def mute(self) -> bool:
        """Whether that card does not answer."""
        return self.state == MUTE

    # Life.

    def service_started(self) -> None:
        """The service starts: a card that is already inserted is not counted (fact 10)."""
        if self.card is not None and self.slot is None:
            self.slot = CardSlot(self.card, self.changed)
            self._present_reported = self._polling = True
            try:
                self._card_inserted()
                self._service.wake_calls()
            finally:
                self._polling = False
            self.poll()

    def service_stopped(self) -> list[CardSlot]:
        """The service stops, or the reader is unplugged: end all waits here. Returns the slot, to be joined."""
        slots = self._empty_slot()
        self._forget()
        self.changed.notify_all()
        return slots

    def _empty_slot(self) -> list[CardSlot]:
        slot, self.slot = self.slot, None
        if slot is None:
            return []
        slot.remove_card()
        return [slot]

    # Inserting and removing the card.

    def insert_card(self, card: VirtualCard) -> None:
        """A card is inserted."""
        self.card = card
        if self._service.running:
            self.slot = CardSlot(card, self.changed)
            self.poll_if_automatic()

    def remove_card(self) -> list[CardSlot]:
        """The card is taken out. Returns the slot, to be joined."""
        self.card = None
        slots = self._empty_slot()
        self.poll_if_automatic()
        return slots

    # The driver.

    def poll(self) -> None:
        """Find and report whether a card was inserted or removed, and who uses it."""
        if self._polling or not self._service.running:
            return  # the poll in progress checks again before it ends
        self._polling, life = True, self._service.life
        try:
            while self._present_reported != (self.slot is not None):
                self._present_reported = not self._present_reported
                if self._present_reported:
                    self._card_inserted()
                else:
                    self._card_removed()
                if life != self._service.life:
                    return
                if self._service.dialect.counts_cards:
                    self.counter = (self.counter + 1) & 0xFFFF
                self._service.wake_calls()
        finally:
            self._polling = False
        if self._sharing_reported != self.sharing:
            self._sharing_reported = self.sharing
            self._service.wake_calls()

    def poll_if_automatic(self) -> None:
        """`poll`, if the driver polls by itself."""
        if self._service.driver_polls:
            self.poll()

    def run_cycle(self) -> None:
        """One cycle of the driver: poll, then switch off a card that nobody uses."""
        self.poll()
        if self.power is Power.ON:
            self.power = Power.OFF
            self.protocol = Protocol.UNDEFINED
            if self.slot is not None:
                self.slot.power_off()
        elif self.power is Power.GRACE:
            self.power = Power.ON

    def _card_inserted(self) -> None:
        life = self._service.life
        atr = b""
        while self.slot is not None:
            try:
                atr = self.slot.power_on()
                break
            except SlotEmptyError:  # perhaps another one was inserted already
                continue
        if life == self._service.life:
            self._set_state(READY if atr else MUTE, atr)
            self.power = Power.ON if atr else Power.OFF

    def _card_removed(self) -> None:
        self.set_event(self._service.dialect.removed)
        self.owner, self.locks = None, 0
        self._stop_idle_timer()
        self.power = Power.OFF
        self._set_state(CardState.ABSENT)
        self.changed.notify_all()

    def _set_state(self, state: CardState, atr: bytes | None = b"") -> None:
        """Set what the service knows of the card; its protocol has to be negotiated again. `atr` None: unchanged."""
        self.state, self.protocol = state, Protocol.UNDEFINED
        if atr is not None:
            self.atr = atr
        self._service.mark_changed(self)

    def set_event(self, code: int) -> None:
        """Have every handle answer `code` until it reconnects."""
        for handle in self.handles:
            handle.event = code

    # The card.

    def switch_on(self) -> bool:
        """Switch the card on if it was switched off; whether it is ready to be used, which it then is."""
        if self.power is Power.OFF:
            with contextlib.suppress(
                SlotEmptyError
            ):  # it was removed, which the driver has not found yet: connecting works all the same (fact 28)
                self.atr = self._card().power_on()
                if self.atr:
                    self.state = READY
                self._service.mark_changed(self)
        if self.state != READY:
            return False
        self.power = Power.IN_USE
        return True

    def reset(self, *, cold: bool = False) -> CardState:
        """Reset the card, or switch it off and on (`cold`); return its state. All handles are told (RESET_CARD)."""
        self.set_event(RESET_CARD)
        life, before = self._service.life, self.slot
        state, atr = READY, b""
        try:
            slot = self._card()
            if cold:
                slot.power_off()
                atr = slot.power_on()
            else:
                atr = slot.reset()
            state = READY if atr else MUTE
        except SlotEmptyError:
            state = CardState.ABSENT
        if life == self._service.life and self.slot in (before, None):  # else the next card is in, and was found
            self._set_state(state, atr)
        return state

    def switch_off(self) -> None:
        """Switch the card off. All handles are told (RESET_CARD)."""
        self.set_event(RESET_CARD)
        self.power = Power.OFF
        if self.slot is None:
            self._set_state(CardState.ABSENT)
        else:
            self.slot.power_off()
            self._set_state(CardState.PRESENT, None)

    def wait_until_free(self) -> None:
        """Return when no exchange is in progress."""
        with contextlib.suppress(SlotEmptyError):
            self._card().wait_until_free()

    def exchange(self, command: bytes) -> bytes:
        """The card's answer. Raises SlotEmptyError."""
        return self._card().exchange(command)

    def _card(self) -> CardSlot:
        if self.slot is None:
            raise SlotEmptyError
        return self.slot

    # Who uses it.

    def is_free_for(self, handle: Handle) -> bool:
        """Whether no other handle holds the lock."""
        return self.owner is None or self.owner is handle

    def take_lock(self, handle: Handle) -> None:
        """Take the lock, once more if it is held already."""
        self.owner = handle
        self.locks += 1

    @property
    def _base(self) -> int:
        """How often its owner holds the lock without a transaction."""
        return 1 if self.sharing == EXCLUSIVE else 0

    def release_lock(self) -> int:
        """Release the lock once; returns the code that PC/SC answers."""
        if self.locks <= self._base:
            return NOT_TRANSACTED
        self.locks -= 1
        if self.locks == self._base:
            self._stop_idle_timer()
        if not self.locks:
            self.clear_lock()
        return 0

    def clear_lock(self) -> None:
        """Release the lock completely."""
        self.owner, self.locks = None, 0
        self._stop_idle_timer()
        self.changed.notify_all()

    @contextlib.contextmanager
    def restart_idle_timer(self, handle: Handle) -> Iterator[None]:
        """Around a call on `handle`: its transaction is not idle meanwhile, and the idle time starts anew when the call ends."""
        counted = handle is self.owner
        self._calls += counted
        try:
            yield
        finally:
            self._calls -= counted
            self._last_call = time.monotonic()

    def start_idle_timer(self) -> None:
        """A transaction has begun: end it when it idles, if the dialect does that."""
        if self._service.dialect.longest_idle and self._idle_timer is None:
            self._idle_timer = threading.Event()
            spawn("simulated-idleness", self._end_idle_transaction, self._idle_timer)

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.set()
            self._idle_timer = None

    def _end_idle_transaction(self, over: threading.Event) -> None:
        longest = left = self._service.dialect.longest_idle
        while not over.wait(left):
            with self._service.lock:
                left = longest if self._calls else self._last_call + longest - time.monotonic()
                if left <= 0 and not over.is_set():
                    self._stop_idle_timer()
                    self.locks = self._base
                    self.reset()
                    if not self._base:
                        self.clear_lock()
                    return

    def set_sharing(self, sharing: int) -> None:
        """Set how many handles share the reader, or EXCLUSIVE."""
        self.sharing = sharing
        self._service.mark_changed(self)
        self.poll_if_automatic()
        self.changed.notify_all()

    def is_exclusive(self, share: ShareMode) -> bool:
        """Whether this share mode excludes others."""
        return share is ShareMode.EXCLUSIVE or (share is ShareMode.DIRECT and self._service.dialect.direct_is_exclusive)

    def remove_handle(self, handle: Handle) -> None:
        """A handle is closed. After the last one, the card is switched off in time."""
        if handle not in self.handles:
            return  # the reader was unplugged, or the service stopped, since it was opened
        self.handles.discard(handle)
        self.set_sharing(0 if self.sharing == EXCLUSIVE else max(0, self.sharing - 1))
        if not self.sharing and self.power is not Power.OFF:
            self.power = Power.GRACE

    def negotiate_protocol(self, share: ShareMode, protocols: Protocol) -> int:
        """Agree on one of `protocols`, T=1 before T=0; returns the code that PC/SC answers (fact 27)."""
        if protocols & Protocol.RAW:
            self.protocol = Protocol.RAW
        elif share is not ShareMode.DIRECT:
            if not self.protocol:
                offered = ATR(self.atr).protocols & protocols
                self.protocol = next((one for one in (Protocol.T1, Protocol.T0) if offered & one), Protocol.UNDEFINED)
            if not self.protocol & protocols:
                return PROTO_MISMATCH
        return 0
