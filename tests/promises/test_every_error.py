"""The promise: whatever code PC/SC answers to whatever call, it is told as the class that says what to do, with its code and
call, or it is survived; nothing is leaked, no lock stays taken, the next card works.

Proved here: every place of a PC/SC call in the library times every code, injected through the simulation, against the table in
tests/support/outcomes.py. Proved elsewhere: what a code is called and advised (test_errors.py).
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import scardface
from scardface import C_APDU, CardRemovedError, NoReaderError, ReaderMonitor, SCard, SCardError, ShareMode, WaitCancelledError
from scardface._pcsc.binding_choice import install, uninstall
from scardface._waiting.driver import driver_of, until_idle
from scardface.errors import meanings
from scardface.testing import SimulatedPCSC
from scardface.testing._simulated_service import CALLS
from tests.support.cards import BOTH, ECHO, LogCard
from tests.support.figures import tell
from tests.support.outcomes import CLASSES, CODES, IGNORED, PLACES, RECOVERED, UNDEFINED, Place
from tests.support.waits import is_at_rest, until, waiters

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]


@pytest.fixture
def anyio_backend() -> str:
    """One will do: where a code goes does not hang on the event loop."""
    return "asyncio"


class Injection:
    """Has one call of one thread answer a code: `SimulatedPCSC.inject`, where several threads call at the same time."""

    def __init__(self, pcsc: SimulatedPCSC, place: Place, code: int) -> None:
        self.fired = False
        self.outcome = place.rule.outcome(code)
        """What is expected."""
        self.code, self.call = code, place.call
        self._place = place
        self._left: int | None = None
        self._lock = threading.Lock()
        self._begin_call = pcsc._service.begin_call
        pcsc._service.begin_call = self._filter  # type: ignore[method-assign]  # the simulation's own way in

    def arm(self) -> None:
        """From now on it counts."""
        self._left = self._place.skip

    def _filter(self, call: str) -> int:
        place = self._place
        if call == place.call and threading.current_thread().name.startswith(place.thread):
            with self._lock:
                left = self._left
                if left is not None:
                    self._left = left - 1 if left else None
                    if not left:
                        self.fired = True
                        return self.code
        return self._begin_call(call)


Action = Callable[[SimulatedPCSC, Injection], Awaitable[None]]
ACTIONS: dict[str, Action] = {}


def action(name: str) -> Callable[[Action], Action]:
    """Something that a program does, with the injection armed before the call in question."""

    def add(action: Action) -> Action:
        ACTIONS[name] = action
        return action

    return add


async def echo(card: Any) -> None:
    """The card works."""
    assert (await card.send(C_APDU(0, ECHO, 0, 0, b"x"))).data == b"x"


@action("acquire")
async def acquire(pcsc: SimulatedPCSC, injection: Injection) -> None:
    injection.arm()
    async with SCard(timeout=10, backend=pcsc) as card:
        await echo(card)


@action("acquire, no card yet")
async def acquire_after_a_look_in_vain(pcsc: SimulatedPCSC, injection: Injection) -> None:
    card = pcsc.remove("A")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acquire, pcsc, injection)
        await until(lambda: waiters(pcsc))
        pcsc.insert("A", card)


@action("acquire beside a waiter")
async def acquire_beside_a_waiter(pcsc: SimulatedPCSC, injection: Injection) -> None:
    failure: SCardError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(SCard("A", atr=b"never", backend=pcsc)._acquire)
        await wait_begun(pcsc, lambda: waiters(pcsc))
        try:
            await acquire(pcsc, injection)
        except SCardError as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def wait_begun(pcsc: SimulatedPCSC, asked: Callable[[], object]) -> None:
    """Return when a wait has asked, and the watcher is blocked in PC/SC: what PC/SC answered before would be too old for it."""
    await until(lambda: asked() and is_at_rest(pcsc) and pcsc._service._waits)


async def acquire_later(pcsc: SimulatedPCSC, change: Callable[[], None]) -> None:
    """Wait for a card, which comes once `change` was done under the wait."""
    card = pcsc.remove("A")
    async with anyio.create_task_group() as tasks:

        async def acquire() -> None:
            async with SCard("A", timeout=10, backend=pcsc) as card:
                await echo(card)

        tasks.start_soon(acquire)
        await wait_begun(pcsc, lambda: waiters(pcsc))
        change()
        pcsc.insert("A", card)


@action("wait for a card")
async def wait_for_a_card(pcsc: SimulatedPCSC, injection: Injection) -> None:
    def change() -> None:
        injection.arm()
        pcsc.add_reader("B")

    await acquire_later(pcsc, change)


@action("wait for a card, the service restarts")
async def wait_over_a_restart(pcsc: SimulatedPCSC, injection: Injection) -> None:
    def change() -> None:
        injection.arm()
        pcsc.stop_service()
        pcsc.start_service()

    await acquire_later(pcsc, change)


@action("cancel")
async def cancel(pcsc: SimulatedPCSC, injection: Injection) -> None:
    pcsc.remove("A")
    card = SCard(backend=pcsc)

    async def cancel_it() -> None:
        await wait_begun(pcsc, lambda: waiters(pcsc))
        injection.arm()
        card.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_it)
        with pytest.raises(WaitCancelledError):
            await card


async def see_both(pcsc: SimulatedPCSC, monitor: Any) -> None:
    """A second reader with a card comes, and the monitor knows of all there is."""
    pcsc.add_reader("B")
    pcsc.insert("B", LogCard())
    async for _ in monitor:
        if {name for name, state in monitor.state.items() if state.present} == {"A", "B"}:
            break


@action("monitor")
async def monitor(pcsc: SimulatedPCSC, injection: Injection) -> None:
    injection.arm()
    async with ReaderMonitor(backend=pcsc) as monitor:
        await see_both(pcsc, monitor)


@action("monitor that runs")
async def monitor_that_runs(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with ReaderMonitor(backend=pcsc) as monitor:
        await monitor.__anext__()
        injection.arm()
        await see_both(pcsc, monitor)


@action("send")
async def send(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc) as card:
        injection.arm()
        await echo(card)


@action("send, the second of a batch")
async def send_a_batch(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc) as card:
        injection.arm()
        await card.send(C_APDU(0, 0), C_APDU(0, 0), C_APDU(0, 0))


@action("transmit")
async def transmit(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc) as card:
        injection.arm()
        await card.transmit(b"\x00\x00\x00\x00")


async def hear_the_removal(pcsc: SimulatedPCSC, injection: Injection, *, begun: bool) -> None:
    """Wait for a card to go, which it does once the injected error was answered, unless that ends the wait."""

    async def remove() -> None:
        if begun:
            await wait_begun(pcsc, lambda: card._removals)
            injection.arm()
            pcsc.add_reader("B")
        await until(lambda: injection.fired)
        if injection.outcome == RECOVERED:
            pcsc.remove("A")

    async with SCard("A", timeout=10, backend=pcsc) as card:
        await until_idle(driver_of(pcsc))  # the watcher of the acquisition has ended
        if not begun:
            injection.arm()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(remove)
            try:
                await card.wait()
            except SCardError as error:
                ended: SCardError | None = error
            else:
                ended = None
        if ended is not None:
            raise ended
        if injection.outcome != RECOVERED:
            raise CardRemovedError("wait() returned", injection.code, injection.call)


@action("begin to wait for the removal")
async def begin_to_wait_for_the_removal(pcsc: SimulatedPCSC, injection: Injection) -> None:
    await hear_the_removal(pcsc, injection, begun=False)


@action("wait for the removal")
async def wait_for_the_removal(pcsc: SimulatedPCSC, injection: Injection) -> None:
    await hear_the_removal(pcsc, injection, begun=True)


@action("send, where resets do not matter")
async def send_after_a_reset(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc, on_reset="reconnect") as card:
        injection.arm()
        if injection.call != "SCardTransmit":
            pcsc.inject("SCardTransmit", 0x80100068)
        await echo(card)


@action("transaction")
async def transaction(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc, share=ShareMode.SHARED) as card:
        injection.arm()
        async with card.transaction():
            await echo(card)


@action("reset")
async def reset(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc) as card:
        injection.arm()
        await card.reset()
        await echo(card)


@action("reconnect")
async def reconnect(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc) as card:
        injection.arm()
        await card.reconnect()
        await echo(card)


@action("control")
async def control(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc) as card:
        injection.arm()
        await card.control(0x42000D48)


@action("attribute")
async def attribute(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc) as card:
        injection.arm()
        await card.attribute(0x00090303)


@action("set_attribute")
async def set_attribute(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc) as card:
        injection.arm()
        await card.set_attribute(0x00090303, b"")


@action("acquire a card that offers both protocols")
async def acquire_a_liar(pcsc: SimulatedPCSC, injection: Injection) -> None:
    pcsc.remove("A")
    pcsc.insert("A", LogCard(BOTH))
    await acquire(pcsc, injection)


@action("acquire a card that was there before the service")
async def acquire_after_a_start(pcsc: SimulatedPCSC, injection: Injection) -> None:
    """Its counter is 0, which says nothing: its state is asked again after the connect."""
    pcsc.stop_service()
    pcsc.start_service()
    await acquire(pcsc, injection)


@action("close")
async def close(pcsc: SimulatedPCSC, injection: Injection) -> None:
    async with SCard(timeout=10, backend=pcsc):
        injection.arm()


@action("close where a release does not disconnect")
async def close_by_disconnecting(pcsc: SimulatedPCSC, injection: Injection) -> None:
    await close(pcsc, injection)


def look(name: str, expected: object) -> None:
    """One of the functions that query once."""

    @action(name)
    async def look(pcsc: SimulatedPCSC, injection: Injection) -> None:
        install(pcsc)
        try:
            injection.arm()
            seen = await getattr(scardface, name)()
        finally:
            uninstall(pcsc)
        if not seen:
            raise NoReaderError("the list is empty", 0x8010002E)
        assert list(seen) == expected


look("readers", ["A"])
look("groups", ["SCard$DefaultReaders"])
look("states", ["A"])


class OtherPlatform(SimulatedPCSC):
    """Where a release alone does not disconnect."""

    release_disconnects = False


def told(place: Place, code: int, error: SCardError | None) -> str:
    """The outcome, once it is certain that the error says where it comes from."""
    if error is None:
        return IGNORED if place.rule.usual == IGNORED else RECOVERED
    if not error.call:  # the library's own: the only one is that there is no reader
        assert isinstance(error, NoReaderError)
        assert error.code == code
        return "no reader"
    assert (error.code, error.call) == (code, place.call), error
    assert error.reader in ("", "A"), error
    return type(error).__name__


async def become(place: Place, code: int) -> str:
    """What comes of `code` at `place`, checked for all that is promised of it."""
    platform = OtherPlatform if place.action.endswith("does not disconnect") else SimulatedPCSC
    with contextlib.closing(platform()) as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        injection = Injection(pcsc, place, code)
        failure: SCardError | None = None
        try:
            with anyio.fail_after(30):
                await ACTIONS[place.action](pcsc, injection)
        except SCardError as error:
            failure = error
        outcome = told(place, code, failure)
        assert injection.fired, "this call is never made there"
        if place.call == "SCardReleaseContext":
            await until(lambda: pcsc.open_contexts <= 1)
            pcsc.stop_service()  # what was not released goes with the service
            pcsc.start_service()
        else:
            await until(lambda: not pcsc.open_contexts)
        if not pcsc.cards:
            pcsc.insert("A", LogCard())
        async with SCard("A", timeout=10, backend=pcsc) as again:
            await echo(again)
    return outcome


def test_the_table_has_every_call_and_code() -> None:
    """Codes that the library knows, that pyscard knows; calls of the simulation, which are those of the backend."""
    from smartcard import scard

    known = {value & 0xFFFFFFFF for name, value in vars(scard).items() if name.startswith(("SCARD_E_", "SCARD_F_", "SCARD_W_"))}
    assert set(CODES) >= known | set(meanings("linux")) | set().union(*CLASSES.values()) | set(UNDEFINED)
    assert {place.call for place in PLACES} == CALLS
    assert {place.action for place in PLACES} == set(ACTIONS)
    tell(f"{len(CALLS)} calls in {len(PLACES)} places x {len(CODES)} codes = {len(PLACES) * len(CODES)} cases")


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries; and nobody is about to notice a removal, nor is a status call about to end by itself."""
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 50)
    for name in ("dispatcher.RETRY_HELD", "dispatcher.RETRY_FAILED", "watcher.FIRST_PAUSE"):
        monkeypatch.setattr(f"scardface._waiting.{name}", 0.005)
    monkeypatch.setattr("scardface._waiting.watcher.SLICE_MS", 60_000)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.action}-{place.call}-{place.skip}".replace(" ", "_"))
async def test_every_code(place: Place) -> None:
    """One after the other: an error that goes astray would else be told to another's wait."""
    became: dict[int, str] = {}
    for code in CODES:
        try:
            became[code] = await become(place, code)
        except Exception as error:
            became[code] = f"{type(error).__name__}: {error}"
    wrong = {
        f"0x{code:08X}": (became[code], place.rule.outcome(code)) for code in CODES if became[code] != place.rule.outcome(code)
    }
    assert not wrong, wrong
    tell(f"{place.action}, {place.call}: {dict(Counter(became.values()))}")
