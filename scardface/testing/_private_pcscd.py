"""A real pcscd for a test, with virtual readers, beside the PC/SC service of the machine.

Rules:

- libpcsclite uses one service per process, chosen at the first PC/SC call. So a process has one private daemon at a time, and later
  ones use the same socket.
- A card stays in its reader when the daemon ends and starts again, until it is taken out.
- Nothing outlives the owner: `__exit__` or the interpreter's exit cleans up, or `_pcscd_namespace` if the owner is killed.
- A forked child owns nothing of its parent's.
"""

from __future__ import annotations

import atexit
import contextlib
import time
from collections.abc import Mapping
from math import inf
from types import MappingProxyType, TracebackType
from typing import NoReturn, SupportsIndex

from .._enums import StateFlag
from .._pcsc.binding_choice import system_pcsc
from .._pcsc.no_copy import refuse_copy
from .._pcsc.reader_states import status_change
from .._threads import ForkLock, forget_at_fork
from ._pcscd_process import Daemon, reader_names, remove_folder
from ._virtual_card import VirtualCard, raise_kept
from ._vpcd import CardLink

__all__ = ["PrivatePcscd"]

_SLICE = 1000
"""Milliseconds of one status call: a change that a call missed is reported at its time-out (fact 10)."""
_UNNOTICED = 1.5
"""Seconds after which a card has gone unnoticed: the driver polls every 0.4 s (fact 12), and nothing reports when it did."""


class PrivatePcscd:
    """Runs a real pcscd with virtual readers, as an ordinary user or root, and puts virtual cards into them.

    ::

        with PrivatePcscd(readers=2) as pcscd:
            pcscd.insert(0, FileCard())
            pcscd.wait_for_card(0)
            ...                             # anything that uses PC/SC, this library or another
            pcscd.remove(0)

    From the first start on, this process and the children that it starts (environment variable PCSCLITE_CSOCK_NAME) see the private
    daemon and no other, also after it has ended: libpcsclite uses one service per process. So start it before the first PC/SC
    call. Needs Linux and the Debian packages `pcscd` and `vsmartcard-vpcd`.

    The daemon lives in mount and network namespaces of its own, so any number of processes may each have one, no port is opened
    outside, and real readers stay with the system's pcscd. It polls its readers every 0.4 s: a card is reported after that, and
    one that was in for a shorter time may never be.

    Methods may be called from any thread, and `insert` and `remove` from a card's own code. A forked child has to leave its
    parent's object alone.
    """

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self, protocol)

    def __init__(self, readers: int = 2) -> None:
        """Prepare a daemon; `start` or `with` starts it.

        Args:
            readers: how many readers, an even number from 0 to 16: pcscd allows 16, vpcd makes them in pairs.

        Raises:
            ValueError: another number.
        """
        self._names = reader_names(readers)
        self._cards: dict[int, VirtualCard] = {}
        self._links: dict[int, CardLink] = {}
        self._noticed: dict[int, int] = {}  # insertions and removals, by reader, when one of them was last waited for
        self._went: dict[int, float] = {}  # when a card went that the driver had asked (monotonic), until that is noticed
        self._daemon: Daemon | None = None

    @property
    def readers(self) -> tuple[str, ...]:
        """The names of the readers, in PC/SC's order."""
        return self._names

    @property
    def cards(self) -> Mapping[str, VirtualCard]:
        """The cards that are in, by reader name: a view."""
        return MappingProxyType({self._names[index]: card for index, card in sorted(self._cards.items())})

    @property
    def running(self) -> bool:
        """Whether the daemon runs just now."""
        return self._daemon is not None and self._daemon.alive()

    @property
    def pid(self) -> int:
        """The daemon's process id, e.g. to freeze it with SIGSTOP. RuntimeError if it does not run."""
        daemon = self._daemon  # without the lock: a card that is being put into a frozen daemon holds it
        if daemon is None or not daemon.alive():
            raise RuntimeError("the private pcscd does not run")
        return daemon.pid

    @property
    def log(self) -> str:
        """What the daemon wrote since its last start."""
        with _lock.current:
            return self._daemon.log() if self._daemon is not None else ""

    def start(self, readers: int | None = None) -> None:
        """Start the daemon; return once it answers and lists its readers. Cards that are in are put in again.

        Args:
            readers: how many readers it has from now on, if not as many as before.

        Raises:
            PcscdUnavailable: something is missing on this machine, which the text names, or the daemon ended at once.
            RuntimeError: a private daemon of this process runs already, or the process has used another PC/SC service.
            ServiceUnavailableError: it has fewer readers than this process has seen, which libpcsclite 2.5 cannot read.
            ValueError: not a possible number of readers, or fewer than the cards need.
        """
        names = self._names if readers is None else reader_names(readers)
        with _lock.current:
            if any(index >= len(names) for index in self._cards):
                raise ValueError(f"a card is in a reader beyond the first {len(names)}: take it out first")
            for last in _last:
                if last.running:
                    raise RuntimeError("a private pcscd of this process runs already, and there can be one: stop it first")
                last.stop()  # what is left of one that was killed, or died
            self._daemon = Daemon(names)
            self._noticed.clear()
            _last[:] = [self]
            self._names = names
            try:
                for index, card in self._cards.items():
                    self._links[index] = self._link(self._daemon, index, card)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop the daemon as a service manager does (SIGTERM; SIGKILL if it does not end within 5 s). Cards stay in, for the next
        start. If it does not run, only what is left of it is cleaned up.
        """
        with _lock.current:
            if self._daemon is not None:
                self._daemon.end("terminate")
            self._unlink_cards()
            if self in _last:
                remove_folder()

    def kill(self) -> None:
        """Kill the daemon (SIGKILL). Its dead socket stays behind, as it would elsewhere. Otherwise like `stop`."""
        with _lock.current:
            if self._daemon is not None:
                self._daemon.end("kill")
            self._unlink_cards()

    def insert(self, reader: int | str, card: VirtualCard) -> None:
        """Put a card into a reader; return once it is connected to the reader's driver.

        PC/SC reports it at the driver's next poll, within 0.4 s: see `wait_for_card`. If the daemon does not run, the card is in
        when it starts.

        Args:
            reader: index in `readers`, or name.
            card: the card, which is in no other reader. Its `error` is cleared.

        Raises:
            ValueError: no such reader, or the reader or the card is taken.
            OSError: the daemon died meanwhile.
        """
        with _lock.current:
            index = self._index(reader)
            if index in self._cards:
                raise ValueError(f"there is a card in {self._names[index]!r} already")
            if any(card is other for other in self._cards.values()):
                raise ValueError("this card is in another reader")
            card.error = None
            if self._daemon is not None and self._daemon.alive():
                self._links[index] = self._link(self._daemon, index, card)
            self._cards[index] = card

    def remove(self, reader: int | str) -> VirtualCard:
        """Take the card out of a reader.

        PC/SC reports it within 0.4 s: see `wait_for_removal`. A command in flight fails at once.

        Args:
            reader: index in `readers`, or name.

        Returns:
            The card.

        Raises:
            ValueError: no such reader, or no card in it.
            Exception: the first that the card's code raised while it was in.
        """
        with _lock.current:
            index = self._index(reader)
            if index not in self._cards:
                raise ValueError(f"there is no card in {self._names[index]!r}")
            card = self._cards.pop(index)
            link = self._links.pop(index, None)
        if link is not None:
            link.close()
            if link.asked:
                self._went[index] = time.monotonic()
        raise_kept(card)
        return card

    def remove_all(self) -> None:
        """Take all cards out; then raise the first exception that one of them kept."""
        with _lock.current:
            cards = list(self._cards.values())
            self._cards.clear()
            self._unlink_cards()
        raise_kept(*cards)

    def wait_for_card(self, reader: int | str, timeout: float = 30.0) -> None:
        """Block until PC/SC itself reports a card in the reader; at once if it does so already.

        To swap cards: `remove`, `wait_for_removal`, `insert`, `wait_for_card`.

        Args:
            reader: index in `readers`, or name.
            timeout: seconds.

        Raises:
            TimeoutError: it did not within `timeout` seconds.
            SCardError: PC/SC failed.
        """
        self._wait(reader, StateFlag.PRESENT, timeout)

    def wait_for_removal(self, reader: int | str, timeout: float = 30.0) -> None:
        """Block until PC/SC has noticed that the card went and reports the reader as empty. Otherwise like `wait_for_card`.

        A reset that fails because the card is gone makes pcscd report an empty reader before the driver's poll has noticed the
        removal. A card that is inserted before that poll would not be noticed either, and the reader stay empty. And a card that
        goes while it is being switched on is reported after that, as mute: whatever is inserted before the next poll is taken for
        that one. So a card that the driver had begun to ask is waited for until PC/SC has noticed it and its removal, or cannot
        have noticed it (1.5 s).
        """
        self._wait(reader, StateFlag.EMPTY, timeout)

    def __enter__(self) -> PrivatePcscd:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Take all cards out and stop the daemon. Raises an error that was kept for a card, unless the block itself failed."""
        try:
            self.stop()
        finally:
            with contextlib.suppress(Exception) if kind is not None else contextlib.nullcontext():
                self.remove_all()

    def _index(self, reader: int | str) -> int:
        if isinstance(reader, str):
            if reader not in self._names:
                raise ValueError(f"no reader {reader!r}; there are {', '.join(self._names)}")
            return self._names.index(reader)
        if not 0 <= reader < len(self._names):
            raise ValueError(f"no reader {reader}; there are {len(self._names)}")
        return reader

    def _link(self, daemon: Daemon, index: int, card: VirtualCard) -> CardLink:
        return CardLink(card, lambda: daemon.connect(index))

    def _unlink_cards(self) -> None:
        links = list(self._links.values())
        self._links.clear()
        for link in links:
            link.close()

    def _wait(self, reader: int | str, flag: StateFlag, timeout: float) -> None:
        index = self._index(reader)
        name = self._names[index]
        deadline = time.monotonic() + timeout
        context = system_pcsc().establish()
        try:
            state = 0
            while not self._is_noticed(index, state, flag):
                left = round((deadline - time.monotonic()) * 1000)
                if state and left <= 0:
                    raise TimeoutError(
                        f"PC/SC did not report {flag.name} on reader {name!r} within {timeout} s, but {StateFlag(state & 0x7FF)!r}"
                    )
                unnoticed = state & StateFlag.EMPTY and not _insertions_and_removals(state) % 2
                state = status_change(context, max(0, min(left, 100 if unnoticed else _SLICE)), [(name, state)]).entries[0].state
            self._noticed[index] = _insertions_and_removals(state)
            if flag is StateFlag.EMPTY:
                self._went.pop(index, None)
        finally:
            context.release()

    def _is_noticed(self, index: int, state: int, flag: StateFlag) -> bool:
        """Whether PC/SC has noticed the insertion or the removal."""
        if not state & flag:
            return False
        if flag is not StateFlag.EMPTY:
            return True
        noticed = _insertions_and_removals(state)
        if noticed % 2:
            return False
        return noticed != self._noticed.get(index, 0) or time.monotonic() - self._went.get(index, -inf) > _UNNOTICED

    def _forget(self) -> None:
        """In a forked child: close the copies of the parent's connections, so that they end with the parent."""
        for link in self._links.values():
            link.forget()
        self._links.clear()
        if self._daemon is not None:
            self._daemon.forget()
            self._daemon = None


_lock = ForkLock()
"""Held for every change: there is one private daemon per process."""
_last: list[PrivatePcscd] = []
"""The one that runs, or ran last; none at first."""


def _insertions_and_removals(state: int) -> int:
    """How many pcscd has noticed since its start, when all readers were empty (`Daemon`): odd while it takes a card to be in."""
    return state >> 16


def _forget() -> None:
    for last in _last:
        last._forget()
    _last.clear()


def _at_exit() -> None:
    for last in _last:
        last.stop()


forget_at_fork(_forget)
atexit.register(_at_exit)
