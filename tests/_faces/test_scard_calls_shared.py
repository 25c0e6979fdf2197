"""A shared card: what is sent together stays together, and what resets of other programs do. On both faces."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from scardface import (
    C_APDU,
    CardRemovedError,
    CardResetError,
    Disposition,
    Protocol,
    SCardError,
    ShareMode,
    errors,
)
from scardface._session import session
from scardface.testing import PrivatePcscd, SimulatedPCSC, VirtualCard
from tests.support import foreign as other
from tests.support.cards import BOTH, ECHO, GATE, LogCard
from tests.support.faces import both_faces, off_loop
from tests.support.foreign import Foreign, ForeignError
from tests.support.simulated_program import Other

pytestmark = pytest.mark.anyio

ECHOED = C_APDU(0, ECHO, 0, 0, b"ab")
SHARED = ShareMode.SHARED
T0 = bytes.fromhex("3B00")


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        yield pcsc


def transactions(pcsc: SimulatedPCSC) -> tuple[int, int]:
    return pcsc.calls.get("SCardBeginTransaction", 0), pcsc.calls.get("SCardEndTransaction", 0)


# One send, one transaction.


@both_faces
async def test_who_has_a_transaction_and_how_many(face: Any, pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", LogCard())
    async with face.open(timeout=5, share=SHARED) as card:
        await card.send(ECHOED)
        assert transactions(pcsc) == (1, 1)
        await card.send(ECHOED, ECHOED, ECHOED)
        assert transactions(pcsc) == (2, 2)
        await card.transmit(bytes([0, ECHO, 0, 0]))
        assert transactions(pcsc) == (2, 2)  # one step is one step
        async with card.transaction(), card.transaction():
            await card.send(ECHOED, ECHOED)
            await card.send(ECHOED, callback=lambda *_: None)
        assert transactions(pcsc) == (3, 3)
        await card.reconnect(share=ShareMode.EXCLUSIVE)
        before = transactions(pcsc)
        await card.send(ECHOED, ECHOED)
        assert transactions(pcsc) == before
        await card.reconnect(share=SHARED)
        before = transactions(pcsc)
        await card.send(ECHOED)
        assert transactions(pcsc) == (before[0] + 1, before[1] + 1)
    async with face.open(timeout=5) as card:
        before = transactions(pcsc)
        await card.send(ECHOED, ECHOED)
        assert transactions(pcsc) == before


@both_faces
async def test_with_a_callback_there_is_one_for_each_command(face: Any, pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", LogCard())
    async with face.open(timeout=5, share=SHARED) as card:
        neighbour = Other(pcsc)
        kept_out: list[bool] = []
        await card.send(ECHOED, ECHOED, callback=lambda *_: kept_out.append(neighbour.is_kept_out()))
        assert kept_out == [False, False]
        assert transactions(pcsc) == (2, 2)


@both_faces
@pytest.mark.parametrize("what", ["61xx", "chain", "6Cxx", "batch", "layer", "channel"])
async def test_nothing_of_others_comes_in_between(face: Any, pcsc: SimulatedPCSC, what: str) -> None:
    """At each step of the exchange another program is kept out; before and after it is not."""

    class Watched(VirtualCard):
        atr = T0

        def process(self, command: bytes) -> bytes:
            kept_out.append(neighbour.is_kept_out())
            if command[1] == 0x70:
                return b"\x01\x90\x00" if command[2] == 0 else b"\x90\x00"
            if command[1] == 0xC0:
                return b"x\x90\x00"
            if command[1] == 0xCA:
                return b"\x6c\x01" if command[4] != 1 else b"x\x90\x00"
            return b"\x61\x01" if command[1] == 0xA4 else b"\x90\x00"

    class Plain:
        def wrap(self, command: C_APDU) -> C_APDU:
            return command

        def unwrap(self, response: Any) -> Any:
            return response

    kept_out: list[bool] = []
    pcsc.insert("A", Watched())
    async with face.open(timeout=5, share=SHARED) as card:
        neighbour = Other(pcsc)
        select, read = C_APDU(0, 0xA4, 4, 0, b"ab", 256), C_APDU(0, 0xCA, 0, 0, b"", 256)
        if what == "61xx":
            await card.send(select)
        elif what == "chain":
            await card.send(C_APDU(0, 0xD6, 0, 0, bytes(600)))
        elif what == "6Cxx":
            await card.send(read)
        elif what == "batch":
            await card.send(select, read, select)
        elif what == "layer":
            await card.layer(Plain()).send(select)
        else:
            async with card.channel() as channel:
                await channel.send(select)
        assert len(kept_out) > 1
        assert all(kept_out)
        assert not neighbour.is_kept_out()


@both_faces
async def test_whatever_goes_wrong_the_transaction_ends(face: Any, pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scardface._session.card_errors.DRIVER_POLL", 30)
    pcsc.insert("A", LogCard())
    async with face.open(timeout=5, share=SHARED) as card:
        neighbour = Other(pcsc)
        for call, code in (
            ("SCardTransmit", errors.NOT_TRANSACTED),
            ("SCardTransmit", errors.RESET_CARD),
            ("SCardBeginTransaction", errors.RESET_CARD),
            ("SCardBeginTransaction", errors.INVALID_PARAMETER),
        ):
            pcsc.inject(call, code)
            with pytest.raises(SCardError):
                await card.send(ECHOED)
            assert not neighbour.is_kept_out()
        with pytest.raises(ZeroDivisionError):
            await card.send(ECHOED, callback=lambda *_: 1 / 0)
        assert not neighbour.is_kept_out()
        pcsc.inject("SCardEndTransaction", errors.NOT_TRANSACTED)
        assert (await card.send(ECHOED)).data == b"ab"  # the answer is there, whatever the end says


@both_faces
async def test_a_foreign_transaction_is_waited_for_and_nothing_is_sent_by_who_left(
    pcscd: PrivatePcscd, foreign: Foreign, face: Any
) -> None:
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    async with face.open(timeout=5, share=SHARED) as card:
        await off_loop(foreign.connect, card.reader, other.SHARED)
        await off_loop(foreign.begin)
        if face.name == "async":  # a thread cannot be cancelled
            with anyio.move_on_after(0.1) as scope:
                await card.send(ECHOED)
            assert scope.cancelled_caught
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(card.send, ECHOED)
            await off_loop(foreign.transmit, bytes([0, 0xEE, 0, 0]))
            await off_loop(foreign.end)
        assert [command[1] for command in virtual.commands] == [0xEE, ECHO]
        await off_loop(foreign.transmit, bytes([0, 0xEE, 0, 0]))


# Resets by others.

RESETS = [
    ("send", {"SCardTransmit": 3}),
    ("send", {"SCardBeginTransaction": 3}),
    ("send", {"SCardBeginTransaction": 1, "SCardStatus": 2, "SCardReconnect": 1}),
    ("send", {"SCardTransmit": 1, "SCardStatus": 3}),
    ("send", {"SCardTransmit": 2, "SCardReconnect": 1}),
    ("reconnect", {"SCardStatus": 4}),
    ("reconnect", {"SCardReconnect": 3}),
    ("reset", {"SCardStatus": 3}),
    ("transaction", {"SCardBeginTransaction": 3}),
]


@both_faces
@pytest.mark.parametrize(("call", "resets"), RESETS)
@pytest.mark.parametrize("callback", [None, lambda *_: None])
async def test_three_resets_in_a_row_are_outlasted(
    face: Any, pcsc: SimulatedPCSC, call: str, resets: dict[str, int], callback: Any
) -> None:
    pcsc.insert("A", LogCard())
    async with face.open(timeout=5, share=SHARED, on_reset="reconnect") as card:
        for name, times in resets.items():
            pcsc.inject(name, errors.RESET_CARD, times)
        if call == "transaction":
            async with card.transaction():
                assert (await card.send(ECHOED)).data == b"ab"
        elif call != "send":
            await getattr(card, call)()
        assert (await card.send(ECHOED, ECHOED, callback=callback)).data == b"ab"


@both_faces
async def test_who_has_reset_the_card_can_go_on_with_it(face: Any, pcsc: SimulatedPCSC, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left alone for a moment between the reconnect and the next transaction."""
    pcsc.insert("A", LogCard())
    left_alone: list[dict[str, int]] = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: left_alone.append(dict(pcsc.calls)))
    monkeypatch.setattr(session, "time", clock)
    async with face.open(timeout=5, share=SHARED, on_reset="reconnect") as card:
        await card.send(ECHOED)
        assert left_alone == []
        before = dict(pcsc.calls)
        pcsc.inject("SCardBeginTransaction", errors.RESET_CARD)
        await card.send(ECHOED)
    [then] = left_alone
    names = ("SCardBeginTransaction", "SCardReconnect", "SCardTransmit", "SCardEndTransaction")
    assert [then.get(name, 0) - before.get(name, 0) for name in names] == [1, 1, 0, 0]


@both_faces
@pytest.mark.parametrize("call", ["SCardTransmit", "SCardBeginTransaction", "SCardStatus", "SCardReconnect"])
async def test_resets_without_end_are_told(face: Any, pcsc: SimulatedPCSC, call: str) -> None:
    pcsc.insert("A", LogCard())
    async with face.open(timeout=5, share=SHARED, on_reset="reconnect") as card:
        pcsc.inject("SCardTransmit", errors.RESET_CARD)
        pcsc.inject(call, errors.RESET_CARD, times=100)
        with pytest.raises(CardResetError):
            await card.send(ECHOED)


@both_faces
@pytest.mark.parametrize("way", ["send", "batch", "callback", "transmit", "transaction"])
async def test_a_forgotten_protocol_is_a_reset(face: Any, pcsc: SimulatedPCSC, way: str) -> None:
    """pcsc-lite forgets it, and then answers PROTO_MISMATCH for ever (fact 62)."""
    pcsc.insert("A", LogCard())

    async def use(card: Any) -> None:
        if way == "transmit":
            await card.transmit(bytes([0, ECHO, 0, 0]))
        elif way == "transaction":
            async with card.transaction():
                await card.send(ECHOED)
        else:
            batch = [ECHOED] * (1 if way == "send" else 2)
            await card.send(*batch, callback=(lambda *_: None) if way == "callback" else None)

    async with face.open(timeout=5, share=SHARED) as card:
        pcsc.inject("SCardTransmit", errors.PROTO_MISMATCH)
        with pytest.raises(CardResetError, match="reset the card"):
            await use(card)
        await card.reconnect()
        await use(card)
    if way == "transmit":
        return  # one raw exchange is never repeated
    async with face.open(timeout=5, share=SHARED, on_reset="reconnect") as card:
        before = pcsc.calls["SCardReconnect"]
        pcsc.inject("SCardTransmit", errors.PROTO_MISMATCH)
        await use(card)
        assert pcsc.calls["SCardReconnect"] > before


@both_faces
async def test_a_protocol_that_cannot_be_had_is_no_reset(face: Any, pcsc: SimulatedPCSC) -> None:
    pcsc.insert("A", LogCard())
    async with face.open(timeout=5, share=SHARED) as card:
        with pytest.raises(SCardError) as caught:
            await card.reconnect(protocols=Protocol.T0)
        assert not isinstance(caught.value, CardResetError)


@both_faces
async def test_a_real_card_under_a_hammer_of_resets(pcscd: PrivatePcscd, foreign: Foreign, face: Any) -> None:
    """Another program connects and disconnects with a reset, as fast as it can, while we send; then all is well."""
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            with contextlib.suppress(ForeignError):  # held up by ours, it may give up
                foreign.connect(pcscd.readers[0], other.SHARED)
                foreign.disconnect(other.RESET)

    answered = 0
    async with face.open(timeout=5, share=SHARED, on_reset="reconnect") as card, anyio.create_task_group() as tasks:
        tasks.start_soon(off_loop, hammer)
        try:
            while virtual.resets < 20 or not answered:
                try:
                    assert (await card.send(ECHOED)).data == b"ab"
                    answered += 1
                except CardResetError:
                    pass  # they do not go on for ever
        finally:
            stop.set()


# The card after it is the card before it.


@both_faces
@pytest.mark.parametrize("dialect", ["pcsclite", "windows", "macos"])
@pytest.mark.parametrize("call", ["reset", "reconnect", "on_reset"])
async def test_another_card_is_never_taken_for_the_one_before(face: Any, dialect: Any, call: str) -> None:
    """On macOS, where nothing counts cards and a removal looks like a reset, the ATR tells."""
    with SimulatedPCSC(dialect) as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard(BOTH))
        async with face.open(timeout=5, share=SHARED, on_reset="reconnect") as card:
            await card.send(ECHOED)
            pcsc.remove("A")
            second = LogCard()
            pcsc.insert("A", second)
            with pytest.raises(CardRemovedError):
                await (card.send(ECHOED) if call == "on_reset" else getattr(card, call)())
            with pytest.raises(CardRemovedError):
                await card.send(ECHOED)
            assert (second.commands, second.resets) == ([], 0)


# What a program has left behind.


@both_faces
@pytest.mark.parametrize("atr", [BOTH, T0, bytes.fromhex("3B800181")])
@pytest.mark.parametrize("share", [SHARED, ShareMode.EXCLUSIVE])
async def test_a_card_that_was_left_in_raw_is_opened(pcscd: PrivatePcscd, face: Any, atr: bytes, share: ShareMode) -> None:
    pcscd.insert(0, LogCard(atr))
    async with face.open(timeout=5, share=SHARED, protocols=Protocol.RAW) as card:
        assert card.protocol == Protocol.RAW
    async with face.open(timeout=5, share=share) as card:
        assert (await card.send(C_APDU(0, ECHO))).sw == 0x9000


@both_faces
async def test_a_card_that_was_left_in_another_protocol_is_opened(pcscd: PrivatePcscd, face: Any) -> None:
    pcscd.insert(0, LogCard(BOTH))
    async with face.open(timeout=5, share=SHARED, protocols=Protocol.T0) as card:
        assert card.protocol == Protocol.T0
    async with face.open(timeout=5, share=SHARED, protocols=Protocol.T1) as card:
        assert card.protocol == Protocol.T1


@both_faces
async def test_a_card_that_somebody_uses_is_not_reset_for_a_protocol(pcscd: PrivatePcscd, foreign: Foreign, face: Any) -> None:
    virtual = LogCard(BOTH)
    pcscd.insert(0, virtual)
    async with face.open(timeout=5, share=SHARED, protocols=Protocol.T0) as user:
        with pytest.raises(SCardError) as caught:
            async with face.open(timeout=2, share=SHARED, protocols=Protocol.T1):
                pytest.fail("it speaks T=0 with somebody")
        codes = {getattr(error, "code", 0) for error in (caught.value, caught.value.__cause__)}
        assert errors.PROTO_MISMATCH in codes
        assert virtual.resets == 0
        await user.send(ECHOED)


@both_faces
async def test_a_close_waits_for_no_transaction_of_its_own(face: Any, pcsc: SimulatedPCSC) -> None:
    """In the middle of a send, and of a block; the card is not reset by it (fact 31)."""
    virtual = LogCard()
    pcsc.insert("A", virtual)
    async with face.open(timeout=5, share=SHARED) as card:
        neighbour = Other(pcsc)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(card.send, C_APDU(0, GATE))
            await off_loop(virtual.reached.wait, 5)
            tasks.start_soon(card.aclose)
            virtual.gate.set()
        assert not neighbour.is_kept_out()
    assert virtual.resets == 0
    async with face.open(timeout=5, share=SHARED) as card:
        async with card.transaction(Disposition.RESET):
            await card.aclose(Disposition.LEAVE)
        assert not neighbour.is_kept_out()
    assert virtual.resets == 0


@both_faces
async def test_who_would_wait_for_its_own_transaction_by_another_scard_is_told(face: Any, pcsc: SimulatedPCSC) -> None:
    """Two cards of one task on one card of the reader's: PC/SC keeps the second out for as long as the first holds it."""
    virtual = LogCard()
    pcsc.insert("A", virtual)
    pcsc.add_reader("B")
    pcsc.insert("B", LogCard())

    def in_one_thread(first: Any, second: Any, elsewhere: Any) -> None:
        with first.transaction():
            one, several = (lambda: second.send(ECHOED)), (lambda: second.send(ECHOED, ECHOED))
            for call in (one, several, second.reset, lambda: second.transmit(bytes(4))):
                with pytest.raises(RuntimeError, match="wait for itself"):
                    call()
            with pytest.raises(RuntimeError, match="wait for itself"), second.transaction():
                pytest.fail("it would wait")
            assert elsewhere.send(ECHOED).data == b"ab"
            assert first.send(ECHOED).data == b"ab"
        assert second.send(ECHOED).data == b"ab"

    async with (
        face.open("A", timeout=5, share=SHARED) as first,
        face.open("A", timeout=5, share=SHARED) as second,
        face.open("B", timeout=5, share=SHARED) as elsewhere,
    ):
        if face.name == "sync":
            await off_loop(in_one_thread, first.card, second.card, elsewhere.card)
        else:
            with anyio.fail_after(10):
                async with first.transaction():
                    for call in (lambda: second.send(ECHOED), second.reset, lambda: second.transmit(bytes(4))):
                        with pytest.raises(RuntimeError, match="wait for itself"):
                            await call()
                    assert (await elsewhere.send(ECHOED)).data == b"ab"
                    assert (await first.send(ECHOED)).data == b"ab"
                assert (await second.send(ECHOED)).data == b"ab"
    assert len(virtual.commands) == 2
