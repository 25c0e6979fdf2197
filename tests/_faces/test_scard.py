"""The main job on a real daemon, the same on both faces; then what is the async face's own."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import scardface
from scardface import (
    C_APDU,
    CardCommunicationError,
    CardRemovedError,
    CardTimeoutError,
    NoReaderError,
    Protocol,
    ProtocolMismatchError,
    SCard,
    ServiceUnavailableError,
    ShareMode,
    WaitCancelledError,
    cancel_all,
)
from scardface.testing import PrivatePcscd
from tests.support.cards import BOTH, BROKEN, ECHO, GATE, NOT_FOUND, T1, LogCard
from tests.support.connections import to_the_service
from tests.support.faces import both_faces, off_loop
from tests.support.foreign import EXCLUSIVE, SHARED, Foreign
from tests.support.waits import PATIENCE, throw_away, waiters

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks")]
LOOKED = C_APDU(0x00, 0xA4, 0x04, 0x00, b"\xa0\x00", 256)


async def put(pcscd: PrivatePcscd, reader: int, card: LogCard | None = None) -> LogCard:
    """Put a card in, so that PC/SC knows it."""
    card = card or LogCard()
    await off_loop(pcscd.insert, reader, card)
    await off_loop(pcscd.wait_for_card, reader)
    return card


def threads_named(*names: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in names]


async def until(condition: Callable[[], bool], bound: float = 30.0) -> None:
    """Wait for something that no event tells of."""
    with anyio.fail_after(bound):
        while not condition():
            await anyio.sleep(0.005)


# Acquiring.


@both_faces
async def test_the_card_that_matches_is_acquired_not_the_one_that_was_in_before(pcscd: PrivatePcscd, face: Any) -> None:
    wrong, right = LogCard(BOTH), LogCard(T1)
    await put(pcscd, 0, wrong)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(off_loop, pcscd.insert, 2, right)
        async with face.open(atr=rb"^\x3b\x80\x01", timeout=10) as card:
            assert card.reader == pcscd.readers[2]
            assert card.atr == T1
            assert card.protocol == Protocol.T1
            assert card.share is ShareMode.EXCLUSIVE
            assert not card.closed
            assert (await card.send(b"\x00\x10\x00\x00\x02ab")).data == b"ab"
        assert card.closed
    assert wrong.commands == []
    assert right.commands == [b"\x00\x10\x00\x00\x02ab"]


@both_faces
async def test_no_card_is_a_timeout_at_the_deadline_that_says_so(pcscd: PrivatePcscd, face: Any) -> None:
    started = time.monotonic()
    with pytest.raises(CardTimeoutError, match="no card") as caught:
        async with face.open(timeout=2):
            pytest.fail("there is no card")
    assert time.monotonic() - started >= 2
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.code, caught.value.call) == (0x8010000A, "")


@both_faces
async def test_a_timeout_tells_the_atr_that_did_not_match(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, 1)
    with pytest.raises(CardTimeoutError, match=r"a card whose ATR did not match \(3b 80 01 81\)"):
        async with face.open(timeout=2, atr=rb"^\x3f"):
            pytest.fail("the ATR does not match")


@both_faces
async def test_timeout_0_takes_a_card_that_is_in_and_waits_for_none(pcscd: PrivatePcscd, face: Any) -> None:
    with pytest.raises(CardTimeoutError, match="no card"):
        async with face.open(timeout=0):
            pytest.fail("there is no card")
    await put(pcscd, 3)
    async with face.open(timeout=0) as card:
        assert card.reader == pcscd.readers[3]


@both_faces
async def test_the_first_of_several_cards_in_the_order_of_the_list(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, 3)
    await put(pcscd, 1)
    async with face.open(timeout=30) as card:
        assert card.reader == pcscd.readers[1]
        async with face.open(timeout=30) as other:
            assert other.reader == pcscd.readers[3]


@both_faces
@pytest.mark.parametrize("kind", ["name", "names", "pattern"])
async def test_readers_name_those_to_watch(pcscd: PrivatePcscd, face: Any, kind: str) -> None:
    await put(pcscd, 0)
    await put(pcscd, 2)
    name = pcscd.readers[2]
    readers = {"name": name, "names": [name, "another"], "pattern": re.compile(re.escape(name) + "$")}[kind]
    async with face.open(readers, timeout=30) as card:
        assert card.reader == name


@both_faces
@pytest.mark.parametrize("readers", ["nobody", ["nobody", "nothing"], re.compile("^nobody")], ids=str)
async def test_named_readers_that_are_not_there(pcscd: PrivatePcscd, face: Any, readers: Any) -> None:
    with pytest.raises(NoReaderError, match=re.escape(pcscd.readers[0])) as caught:
        async with face.open(readers, timeout=30):
            pytest.fail("there is no such reader")
    assert (caught.value.code, caught.value.call) == (0x8010002E, "")


@both_faces
async def test_groups_are_passed_on_and_pnp_ignores_readers(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, 0)
    async with face.open(groups="SCard$DefaultReaders", timeout=30) as card:
        assert card.reader == pcscd.readers[0]
    with pytest.warns(UserWarning, match="wait_for_reader=True"):
        async with face.open("nobody", "nothing", 5, None, True) as card:
            assert card.reader == pcscd.readers[0]


@both_faces
async def test_direct_opens_a_reader_without_a_card(pcscd: PrivatePcscd, face: Any) -> None:
    async with face.open(pcscd.readers[1], timeout=30, share=ShareMode.DIRECT) as card:
        assert card.reader == pcscd.readers[1]
        assert card.atr == b""
        assert card.protocol == Protocol.UNDEFINED


@both_faces
async def test_protocols_choose_and_a_mismatch_is_told(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, 0, LogCard(BOTH))
    async with face.open(timeout=30, protocols=Protocol.T0) as card:
        assert card.protocol == Protocol.T0
    await put(pcscd, 1, LogCard(T1))
    with pytest.raises(CardTimeoutError, match="could not be opened") as caught:
        async with face.open(pcscd.readers[1], timeout=0, protocols=Protocol.T0):
            pytest.fail("the card speaks T=1 alone")
    assert isinstance(caught.value.__cause__, ProtocolMismatchError)
    assert caught.value.__cause__.call == "SCardConnect"


@both_faces
async def test_waiters_are_served_oldest_first_and_handed_the_card_directly(pcscd: PrivatePcscd, face: Any) -> None:
    """Nobody looks at PC/SC again in between: the card itself sees one reset and the next command."""
    card = await put(pcscd, 0)
    served: list[int] = []

    async def take(number: int) -> None:
        async with face.open(timeout=10) as mine:
            served.append(number)
            await mine.send(bytes([0x00, 0x50, number, 0x00]))

    async with anyio.create_task_group() as tasks, face.open(timeout=30):
        for number in range(8):
            tasks.start_soon(take, number)
            await until(lambda waiting=number: len(_waiting()) > waiting)
    assert served == list(range(8))
    assert [command[2] for command in card.commands] == served


def _waiting() -> list[Any]:
    """Those who wait, and have had their first look."""
    return waiters()


@both_faces
async def test_shared_holders_coexist_and_an_exclusive_waiter_makes_later_ones_queue(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, 0)
    order: list[str] = []

    async def take(name: str, share: ShareMode, release: anyio.Event) -> None:
        async with face.open(timeout=30, share=share):
            order.append(name)
            await release.wait()

    release = anyio.Event()
    async with anyio.create_task_group() as tasks:
        first_two = anyio.Event()
        tasks.start_soon(take, "a", ShareMode.SHARED, first_two)
        tasks.start_soon(take, "b", ShareMode.SHARED, first_two)
        await until(lambda: len(order) == 2)
        tasks.start_soon(take, "exclusive", ShareMode.EXCLUSIVE, release)
        await until(lambda: len(_waiting()) == 1)
        tasks.start_soon(take, "late", ShareMode.SHARED, release)
        await until(lambda: len(_waiting()) == 2)
        first_two.set()
        await until(lambda: len(order) == 3)
        release.set()
    assert order[2:] == ["exclusive", "late"]


@both_faces
async def test_a_card_that_another_program_holds_is_waited_for(
    pcscd: PrivatePcscd, face: Any, foreign: Foreign, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scardface._pcsc.other_programs._MAX_NAMED", 1_000_000)  # others may run beside this test
    await put(pcscd, 0)
    await off_loop(foreign.connect, pcscd.readers[0], EXCLUSIVE)
    with pytest.raises(CardTimeoutError, match="a card held by another program"):
        async with face.open(timeout=2):
            pytest.fail("another program holds the card")
    caplog.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_let_go, foreign, caplog)
        async with face.open(timeout=30) as card:
            assert card.reader == pcscd.readers[0]
    warned = _warnings(caplog)
    assert len(warned) == 1
    assert f"pid {foreign.pid}" in warned[0] or sys.platform != "linux", "only Linux tells"
    assert "share=ShareMode.SHARED" in warned[0]


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def _let_go(foreign: Foreign, caplog: pytest.LogCaptureFixture) -> None:
    await until(lambda: _warnings(caplog))
    await anyio.sleep(0.6)  # more than two tries, which come every 250 ms
    await off_loop(foreign.disconnect)


@both_faces
async def test_a_card_that_another_program_shares_lets_shared_waiters_pass_an_exclusive_one(
    pcscd: PrivatePcscd, face: Any, foreign: Foreign
) -> None:
    await put(pcscd, 0)
    await off_loop(foreign.connect, pcscd.readers[0], SHARED)
    order: list[str] = []

    async def exclusive() -> None:
        async with face.open(timeout=10):
            order.append("exclusive")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exclusive)
        await until(lambda: len(_waiting()) == 1)
        async with face.open(timeout=30, share=ShareMode.SHARED), face.open(timeout=30, share=ShareMode.SHARED):
            order.append("both shared")
        await off_loop(foreign.disconnect)
    assert order == ["both shared", "exclusive"]


@both_faces
async def test_a_connect_that_another_programs_transaction_blocks_ends_at_the_deadline(
    pcscd: PrivatePcscd, face: Any, foreign: Foreign
) -> None:
    """And not with the transaction. What PC/SC still holds then cleans up by itself, and the card can be acquired."""
    await put(pcscd, 0)
    await off_loop(foreign.connect, pcscd.readers[0], SHARED)
    await off_loop(foreign.begin)
    with pytest.raises(CardTimeoutError, match="a connect still blocked by another program's transaction"):
        async with face.open(timeout=2, share=ShareMode.SHARED):
            pytest.fail("another program's transaction blocks the connect")
    await off_loop(foreign.end)
    await until(lambda: not threads_named("scardface-card"))
    async with face.open(timeout=30, share=ShareMode.SHARED) as card:
        assert (await card.send(b"\x00\x10\x00\x00\x01x")).data == b"x"


@both_faces
async def test_a_wait_outlives_a_restart_of_the_daemon(pcscd: PrivatePcscd, face: Any) -> None:
    async def restart_with_card() -> None:
        await until(lambda: len(_waiting()) == 1)
        await off_loop(pcscd.kill)
        await off_loop(pcscd.start)
        await off_loop(pcscd.insert, 1, LogCard())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(restart_with_card)
        async with face.open(timeout=20) as card:
            assert card.reader == pcscd.readers[1]


@pytest.mark.skipif(sys.platform == "win32", reason="there a service that is absent means that no reader is plugged in")
@both_faces
async def test_without_a_service_the_start_fails_and_says_what_to_do(pcscd: PrivatePcscd, face: Any) -> None:
    await off_loop(pcscd.stop)
    for pnp in (False, True):
        with pytest.raises(ServiceUnavailableError, match="no PC/SC service runs"):
            async with face.open(timeout=30, pnp=pnp):
                pytest.fail("there is no service")


# Exchanging.


@both_faces
async def test_a_batch_stops_after_the_first_status_that_is_not_9000(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = await put(pcscd, 0)
    batch = [C_APDU(0, ECHO, 0, 0, b"one"), C_APDU(0, NOT_FOUND), C_APDU(0, ECHO, 0, 0, b"three")]
    async with face.open(timeout=30) as card:
        response = await card.send(*batch)
        assert response.sw == 0x6A82
        assert virtual.commands == [bytes(command) for command in batch[:2]]
        seen: list[Any] = []
        assert (await card.send(*batch, callback=lambda *pair: seen.append(pair))) == response
        assert [command for command, _ in seen] == batch[:2]
        assert [answer.sw for _, answer in seen] == [0x9000, 0x6A82]
        assert (await card.send(bytes(batch[0]), bytearray(bytes(batch[2])), memoryview(bytes(batch[0])))).data == b"one"


@both_faces
async def test_bad_input_is_refused_before_anything_is_sent(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = await put(pcscd, 0)
    async with face.open(timeout=30) as card:
        with pytest.raises(ValueError, match="at least one command"):
            await card.send()
        with pytest.raises(ValueError, match=r"."):
            await card.send(C_APDU(0, ECHO), b"\x00\x10")
        with pytest.raises(TypeError, match=r"bytes-like, not str: .*C_APDU\.fromhex"):
            await card.send("00A40000")
        with pytest.raises(TypeError, match=r"bytes-like, not list: .*send\(\*commands\)"):
            await card.send([C_APDU(0, ECHO), C_APDU(0, ECHO)])
        with pytest.raises(TypeError, match=r"transmit\(\) takes bytes, bytes\(command\)"):
            await card.transmit(C_APDU(0, ECHO))
        with pytest.raises(ValueError, match="at least 4 bytes"):
            await card.transmit(b"\x00\x10\x00")
        with pytest.raises(TypeError, match="bytes-like, not list"):
            await card.transmit([0, 0x10, 0, 0])
        assert virtual.commands == []


@both_faces
async def test_transmit_is_verbatim(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = await put(pcscd, 0)
    async with face.open(timeout=30) as card:
        assert await card.transmit(b"\x80\x20\x01\x02") == b"\x6a\x82"
    assert virtual.commands == [b"\x80\x20\x01\x02"]


@both_faces
async def test_a_callbacks_exception_ends_the_batch_and_the_card_stays_usable(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = await put(pcscd, 0)

    def fail(command: C_APDU, response: object) -> None:
        raise LookupError("enough")

    async with face.open(timeout=30) as card:
        with pytest.raises(LookupError, match="enough"):
            await card.send(b"\x00\x10\x00\x00", b"\x00\x10\x00\x00", callback=fail)
        assert len(virtual.commands) == 1
        assert (await card.send(b"\x00\x10\x00\x00\x01x")).data == b"x"


@both_faces
async def test_an_answer_of_one_byte_is_bad_communication(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, 0)
    async with face.open(timeout=30) as card:
        with pytest.raises(CardCommunicationError, match="1 byte"):
            await card.send(C_APDU(0, BROKEN))
        assert (await card.send(b"\x00\x10\x00\x00\x01x")).data == b"x"


@both_faces
async def test_batches_of_many_users_never_interleave(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = await put(pcscd, 0)
    async with face.open(timeout=30) as card:

        async def batch(user: int, callback: Any) -> None:
            await card.send(*(bytes([0, 0x50, user, step]) for step in range(4)), callback=callback)

        async with anyio.create_task_group() as tasks:
            for user in range(10):
                tasks.start_soon(batch, user, None if user % 2 else lambda *pair: None)
    told = [(command[2], command[3]) for command in virtual.commands]
    assert [step for _, step in told] == [0, 1, 2, 3] * 10
    assert all(len({user for user, _ in told[start : start + 4]}) == 1 for start in range(0, 40, 4))
    assert {user for user, _ in told} == set(range(10))


@both_faces
async def test_the_trace_names_commands_and_keeps_secrets(pcscd: PrivatePcscd, face: Any, caplog: pytest.LogCaptureFixture) -> None:
    await put(pcscd, 0)
    caplog.set_level(logging.DEBUG)
    async with face.open(timeout=30) as card:
        await card.send(LOOKED, C_APDU(0x00, 0x20, 0x00, 0x81, b"\x31\x33\x35\x37\x39"))
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "9000" in text.replace(" ", "")
    assert pcscd.readers[0] in text
    for leak in ("3133353739", "13579", repr(b"13579")[2:-1]):
        assert leak not in text.replace(" ", "")


# The card leaves.


@both_faces
async def test_wait_returns_at_removal_and_at_once_afterwards(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, 0)
    async with face.open(timeout=30) as card:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(card.wait)
            tasks.start_soon(card.wait)
            await until(lambda: len(card._removals) == 2)
            await off_loop(pcscd.remove, 0)
        await card.wait()
        with pytest.raises(CardRemovedError):
            await card.send(b"\x00\x10\x00\x00")


@both_faces
async def test_wait_returns_when_the_card_was_swapped(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, 0)
    async with face.open(timeout=30) as card:
        await off_loop(pcscd.remove, 0)
        await off_loop(pcscd.wait_for_removal, 0)
        await put(pcscd, 0, LogCard())
        with anyio.fail_after(30):
            await card.wait()


@both_faces
async def test_a_card_pulled_in_the_middle_of_an_exchange_is_a_card_removed(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = await put(pcscd, 0)
    async with face.open(timeout=30) as card:

        async def pull() -> None:
            await off_loop(virtual.reached.wait)
            virtual.gate.set()
            await off_loop(pcscd.remove, 0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pull)
            batch = [C_APDU(0, GATE)] * 1000
            with pytest.raises(CardRemovedError):
                await card.send(*batch)


@both_faces
async def test_a_lost_service_ends_the_wait_and_the_exchange(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, 0)
    async with face.open(timeout=30) as card:

        async def kill() -> None:
            await until(lambda: len(card._removals) == 1)
            await off_loop(pcscd.kill)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            with pytest.raises(ServiceUnavailableError):
                await card.wait()
        await off_loop(pcscd.start)
        with pytest.raises(ServiceUnavailableError):
            await card.wait()
        with pytest.raises(ServiceUnavailableError):
            await card.send(b"\x00\x10\x00\x00")


@both_faces
async def test_an_exclusive_card_is_reset_at_its_close_a_shared_one_is_left(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = await put(pcscd, 0)
    async with face.open(timeout=30, share=ShareMode.SHARED):
        pass
    assert virtual.resets == 0
    async with face.open(timeout=30):
        pass
    assert virtual.resets == 1


# Closing and cancelling.


@both_faces
async def test_a_closed_card_refuses_and_ends_its_waits(pcscd: PrivatePcscd, face: Any) -> None:
    await put(pcscd, 0)
    async with face.open(timeout=30) as card:

        async def wait() -> None:
            with pytest.raises(WaitCancelledError):
                await card.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await until(lambda: len(card._removals) == 1)
            await card.aclose()
        assert card.closed
        for call in (card.wait, lambda: card.send(b"\x00\x10\x00\x00"), lambda: card.transmit(b"\x00\x10\x00\x00")):
            with pytest.raises(RuntimeError, match="closed"):
                await call()
        await card.aclose()


@both_faces
async def test_cancel_ends_the_waits_of_an_open_card_and_no_send(pcscd: PrivatePcscd, face: Any) -> None:
    virtual = await put(pcscd, 0)
    async with face.open(timeout=30) as card:
        card.cancel()  # there is no wait: nothing happens

        async def wait() -> None:
            with pytest.raises(WaitCancelledError):
                await card.wait()

        async def send() -> None:
            assert (await card.send(C_APDU(0, GATE))).sw == 0x9000

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(send)
            await off_loop(virtual.reached.wait)
            await until(lambda: len(card._removals) == 1)
            card.cancel()
            virtual.gate.set()


@both_faces
async def test_cancel_all_ends_every_acquisition(pcscd: PrivatePcscd, face: Any) -> None:
    ended: list[BaseException] = []

    async def wait() -> None:
        try:
            async with face.open():
                pytest.fail("there is no card")
        except WaitCancelledError as error:
            ended.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(wait)
        await until(lambda: len(_waiting()) == 5)
        await off_loop(cancel_all)
    assert len(ended) == 5
    assert {(error.code, error.call) for error in ended} == {(0x80100002, "")}


async def test_cancel_before_the_acquisition_began(pcscd: PrivatePcscd) -> None:
    card = SCard()
    card.cancel()
    with pytest.raises(WaitCancelledError):
        await card


async def test_await_and_aclose_are_the_block_without_the_block(pcscd: PrivatePcscd) -> None:
    await put(pcscd, 0)
    card = await SCard(timeout=30)
    assert (await card.send(b"\x00\x10\x00\x00\x01x")).data == b"x"
    with pytest.raises(RuntimeError, match="is open already"):
        await card
    await card.aclose()
    assert not threads_named("scardface-card")


async def test_an_acquisition_that_is_cancelled_is_done_soon_and_leaves_nothing(pcscd: PrivatePcscd) -> None:
    taken: list[float] = []
    before = set(threading.enumerate())
    for _ in range(50):
        scope = anyio.CancelScope()
        done = anyio.Event()

        async def wait(scope: anyio.CancelScope = scope, done: anyio.Event = done) -> None:
            with scope:
                async with SCard():
                    pytest.fail("there is no card")
            done.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await until(lambda: len(_waiting()) == 1)
            started = time.perf_counter()
            scope.cancel()
            await done.wait()
            taken.append(time.perf_counter() - started)
        end = time.monotonic() + PATIENCE
        while left := [each for each in threading.enumerate() if each not in before and each.name.startswith("scardface")]:
            assert time.monotonic() < end, left
            await anyio.sleep(0.005)
    assert len(taken) == 50


async def test_two_hundred_waiters_use_one_context_and_two_threads(pcscd: PrivatePcscd) -> None:
    async def wait() -> None:
        async with SCard():
            pytest.fail("there is no card")

    before, sockets = set(threading.enumerate()), len(to_the_service())
    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            tasks.start_soon(wait)
        await until(lambda: len(_waiting()) == 200, 20)
        await until(lambda: not threads_named("scardface-cancel"))
        new = sorted(each.name for each in set(threading.enumerate()) - before if each.name.startswith("scardface"))
        assert new == ["scardface-driver", "scardface-watch"]
        await until(lambda: len(to_the_service()) - sockets == (sys.platform == "linux"))  # the first query's is just closed
        tasks.cancel_scope.cancel()


async def test_a_cancelled_send_ends_its_command_and_sends_no_later_one(pcscd: PrivatePcscd) -> None:
    virtual = await put(pcscd, 0)
    async with SCard(timeout=30) as card:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(card.send, C_APDU(0, GATE), C_APDU(0, ECHO, 1))
            await off_loop(virtual.reached.wait)
            tasks.start_soon(card.send, C_APDU(0, ECHO, 2))  # queued behind: sends nothing
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert [command[1] for command in virtual.commands] == [GATE]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(card.send, C_APDU(0, ECHO, 3))
            await anyio.wait_all_tasks_blocked()
            assert [command[1] for command in virtual.commands] == [GATE]  # it waits for the command in flight
            virtual.gate.set()
    assert [command[1:3] for command in virtual.commands] == [bytes([GATE, 0]), bytes([ECHO, 3])]


async def test_a_callback_that_can_be_awaited_is(pcscd: PrivatePcscd) -> None:
    virtual = await put(pcscd, 0)
    seen: list[tuple[int, int]] = []

    async def callback(command: C_APDU, response: object) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append((command.p1, len(virtual.commands)))

    async with SCard(timeout=30) as card:
        await card.send(C_APDU(0, ECHO, 1), C_APDU(0, ECHO, 2), callback=callback)
    assert seen == [(1, 1), (2, 2)]


async def test_a_callback_cannot_send_on_its_own_card_but_on_another(pcscd: PrivatePcscd) -> None:
    await put(pcscd, 0)
    other_virtual = await put(pcscd, 1)
    async with SCard(pcscd.readers[0], timeout=30) as card, SCard(pcscd.readers[1], timeout=30) as other:

        async def callback(command: C_APDU, response: object) -> None:
            await other.send(b"\x00\x10\x00\x00")
            with pytest.raises(RuntimeError, match="inside its own callback"):
                await card.transmit(b"\x00\x10\x00\x00")
            await card.send(b"\x00\x10\x00\x00")

        with pytest.raises(RuntimeError, match="inside its own callback"):
            await card.send(b"\x00\x10\x00\x00", callback=callback)
        assert len(other_virtual.commands) == 1
        await card.send(b"\x00\x10\x00\x00")


async def test_a_callback_runs_in_the_callers_task_and_context(pcscd: PrivatePcscd) -> None:
    await put(pcscd, 0)
    tasks: list[int] = []
    async with SCard(timeout=30) as card:
        await card.send(b"\x00\x10\x00\x00", callback=lambda *pair: tasks.append(anyio.get_current_task().id))
    assert tasks == [anyio.get_current_task().id]


async def test_a_card_before_its_acquisition(pcscd: PrivatePcscd) -> None:
    card = SCard()
    assert not card.closed
    assert card.share is ShareMode.EXCLUSIVE
    assert "not open" in repr(card)
    with pytest.raises(RuntimeError, match="not open yet"):
        await card.send(b"\x00\x10\x00\x00")
    with pytest.raises(RuntimeError, match="not open yet"):
        await card.wait()
    with pytest.raises(AttributeError, match="not open yet"):
        _ = card.atr
    await card.aclose()
    assert card.closed


async def test_an_unclosed_card_warns_and_is_closed_when_collected(pcscd: PrivatePcscd) -> None:
    virtual = await put(pcscd, 0)
    cards = [await SCard(timeout=30)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        throw_away(cards, lambda: caught)
    assert [str(warning.message)[:8] for warning in caught if warning.category is ResourceWarning] == ["unclosed"]
    await until(lambda: virtual.resets == 1)
    async with SCard(timeout=30):
        pass


async def test_a_close_that_is_cancelled_is_not_lost(pcscd: PrivatePcscd) -> None:
    virtual = await put(pcscd, 0)
    with anyio.CancelScope() as scope:
        async with SCard(timeout=30) as card:
            scope.cancel()
            await anyio.sleep_forever()
    assert card.closed
    await until(lambda: virtual.resets == 1)
    await until(lambda: not threads_named("scardface-card"))


async def test_a_cancelled_close_behind_a_hung_exchange_returns_and_the_thread_finishes(pcscd: PrivatePcscd) -> None:
    virtual = await put(pcscd, 0)
    with anyio.CancelScope() as scope:
        async with SCard(timeout=30) as card, anyio.create_task_group() as tasks:
            tasks.start_soon(card.send, C_APDU(0, GATE))
            await off_loop(virtual.reached.wait)
            scope.cancel()
    assert threads_named("scardface-card")
    virtual.gate.set()
    await until(lambda: not threads_named("scardface-card"))
    assert virtual.resets == 1


async def test_one_look_without_a_monitor(pcscd: PrivatePcscd) -> None:
    await put(pcscd, 2)
    assert await scardface.readers() == pcscd.readers
    assert await scardface.readers("SCard$DefaultReaders") == pcscd.readers
    assert await scardface.groups() == ("SCard$DefaultReaders",)
    states = await scardface.states()
    assert [state.present for state in states.values()] == [False, False, True, False]
    assert states[pcscd.readers[2]].atr == T1
    with pytest.raises(TypeError):
        await scardface.readers(5)  # type: ignore[arg-type]  that is the test
