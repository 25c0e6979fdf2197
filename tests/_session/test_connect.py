"""Connecting: the fallback to T=0, and never another card for the one that was open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scardface import (
    CardRemovedError,
    CardResetError,
    Disposition,
    Lengths,
    Protocol,
    ProtocolMismatchError,
    SCardError,
    ShareMode,
    errors,
)
from scardface._pcsc.binding_choice import default_backend
from scardface._pcsc.reader_states import reader_state
from scardface._session.card_request import CardRequest
from scardface._session.connect import RESETS, connect, identify, reconnect
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import BOTH, T1, LogCard

ANY = Protocol.T0 | Protocol.T1


class Slow:
    """A handle whose reconnect comes a moment too late: `before` it somebody else does something."""

    def __init__(self, handle: Any, before: Callable[[], object]) -> None:
        self.handle = handle
        self.before = before

    def reconnect(self, *args: object) -> object:
        self.before()
        return self.handle.reconnect(*args)

    def __getattr__(self, name: str) -> object:
        return getattr(self.handle, name)


def card_request(protocols: Protocol = ANY) -> CardRequest:
    return CardRequest.from_arguments(None, None, 1, None, False, ShareMode.SHARED, protocols, Lengths.AUTO)


@pytest.fixture
def pcsc() -> Iterator[SimulatedPCSC]:
    with SimulatedPCSC() as simulated:
        simulated.add_reader("A")
        yield simulated


@pytest.mark.parametrize("code", [errors.UNRESPONSIVE_CARD, errors.PROTO_MISMATCH])
def test_a_card_that_lies_about_t1_is_spoken_to_with_t0(pcsc: SimulatedPCSC, code: int) -> None:
    card = LogCard(BOTH)
    pcsc.insert("A", card)
    context = pcsc.establish()
    pcsc.inject("SCardConnect", code, 2 if code == errors.PROTO_MISMATCH else 1)  # one may be another program's reset
    handle, protocols = connect(context, "A", card_request())
    assert (handle.protocol, protocols, card.resets) == (Protocol.T0, Protocol.T0, 1)
    context.release()


@pytest.mark.parametrize(
    ("atr", "protocols", "code"),
    [
        (T1, ANY, errors.UNRESPONSIVE_CARD),  # it has no other
        (BOTH, Protocol.T1, errors.UNRESPONSIVE_CARD),  # nobody asked for another
        (BOTH, ANY, errors.SHARING_VIOLATION),  # no lie
    ],
)
def test_what_is_no_lie_is_not_tried_again(pcsc: SimulatedPCSC, atr: bytes, protocols: Protocol, code: int) -> None:
    pcsc.insert("A", LogCard(atr))
    context = pcsc.establish()
    pcsc.inject("SCardConnect", code)
    with pytest.raises(SCardError) as caught:
        connect(context, "A", card_request(protocols))
    assert caught.value.code == code
    context.release()


def test_a_card_that_was_seen_before_the_connect_is_known_by_its_counter(pcsc: SimulatedPCSC) -> None:
    """As long as the counter and the ATR are those that were seen, no card has moved; else the reader is asked anew."""
    pcsc.insert("A", LogCard(T1))
    context = pcsc.establish()
    seen = reader_state(context, "A")
    handle = context.connect("A", ShareMode.SHARED, ANY)
    before = pcsc.calls["SCardGetStatusChange"]
    assert identify(context, handle, "A", seen) == (seen, T1)
    assert pcsc.calls["SCardGetStatusChange"] == before
    others = [
        None,
        seen._replace(counter=0),
        seen._replace(counter=seen.counter + 1),
        seen._replace(atr=BOTH),
        seen._replace(flags=0),
    ]
    for other in others:
        now, atr = identify(context, handle, "A", other)
        assert (now.counter, now.atr, atr) == (seen.counter, T1, T1)
    assert pcsc.calls["SCardGetStatusChange"] == before + len(others)
    context.release()


def test_the_counter_of_scardstatus_is_that_of_the_reader(pcscd: PrivatePcscd) -> None:
    """Over two insertions, with the real service."""
    backend, reader = default_backend(), pcscd.readers[0]
    counters = []
    for _ in range(2):
        pcscd.insert(reader, LogCard())
        pcscd.wait_for_card(reader)
        context = backend.establish()
        seen = reader_state(context, reader)
        handle = context.connect(reader, ShareMode.SHARED, ANY)
        assert handle.status().state >> 16 == seen.counter
        assert identify(context, handle, reader, seen) == (seen, seen.atr)
        counters.append(seen.counter)
        context.release()
        pcscd.remove(reader)
        pcscd.wait_for_removal(reader)
    assert counters[0] != counters[1]


def test_another_card_is_not_taken_for_the_one_that_was_open(pcscd: PrivatePcscd) -> None:
    """PC/SC would (fact 34); seen before the reconnect, since the handle remembers."""
    from scardface._pcsc.pyscard import PYSCARD

    name = pcscd.readers[0]
    context = PYSCARD.establish()
    pcscd.insert(name, LogCard(BOTH))
    pcscd.wait_for_card(name)
    handle, protocols = connect(context, name, card_request())
    seen = reader_state(context, name)
    now, atr = reconnect(context, handle, name, seen, ShareMode.SHARED, protocols, Disposition.LEAVE)
    assert (now.counter, atr) == (seen.counter, BOTH)
    pcscd.remove(name)
    pcscd.wait_for_removal(name)
    second = LogCard(BOTH)
    pcscd.insert(name, second)
    pcscd.wait_for_card(name)
    with pytest.raises(CardRemovedError):
        reconnect(context, handle, name, seen, ShareMode.SHARED, protocols, Disposition.RESET)
    assert second.resets == 0
    context.release()


def test_a_swap_in_the_moment_of_the_reconnect_is_seen(pcsc: SimulatedPCSC) -> None:
    def swap() -> None:
        pcsc.remove("A")
        pcsc.insert("A", LogCard(BOTH))

    pcsc.insert("A", LogCard(BOTH))
    context = pcsc.establish()
    handle, protocols = connect(context, "A", card_request())
    seen = reader_state(context, "A")
    with pytest.raises(CardRemovedError, match="another was put in"):
        reconnect(context, Slow(handle, swap), "A", seen, ShareMode.SHARED, protocols, Disposition.LEAVE)  # type: ignore[arg-type]
    context.release()


@pytest.mark.parametrize(("times", "disposition"), [(1, Disposition.LEAVE), (1, Disposition.RESET), (100, Disposition.LEAVE)])
def test_a_card_that_has_no_protocol_in_the_middle_of_anothers_reset(
    pcsc: SimulatedPCSC, times: int, disposition: Disposition
) -> None:
    """Another program's reset goes on for a moment; a mismatch that stays, or of a reset of our own, is one."""
    pcsc.insert("A", LogCard(BOTH))
    context = pcsc.establish()
    handle, protocols = connect(context, "A", card_request())
    seen = reader_state(context, "A")
    pcsc.inject("SCardReconnect", errors.PROTO_MISMATCH, times)
    if times == 1 and disposition is Disposition.LEAVE:
        assert reconnect(context, handle, "A", seen, ShareMode.SHARED, protocols, disposition)[1] == BOTH
    else:
        with pytest.raises(ProtocolMismatchError):
            reconnect(context, handle, "A", seen, ShareMode.SHARED, protocols, disposition)
        assert pcsc.calls["SCardReconnect"] == (1 if times == 1 else RESETS + 1)
    context.release()


def test_one_reset_after_the_other_is_told_as_that(pcsc: SimulatedPCSC) -> None:
    """Whatever the last try was answered: who is told of another protocol would not try again."""

    def reset() -> None:
        pcsc.inject("SCardStatus", errors.RESET_CARD)
        if pcsc.calls.get("SCardReconnect", 0) == RESETS:
            pcsc.inject("SCardReconnect", errors.PROTO_MISMATCH)

    pcsc.insert("A", LogCard(BOTH))
    context = pcsc.establish()
    handle, protocols = connect(context, "A", card_request())
    seen = reader_state(context, "A")
    with pytest.raises(CardResetError):
        reconnect(context, Slow(handle, reset), "A", seen, ShareMode.SHARED, protocols, Disposition.LEAVE)  # type: ignore[arg-type]
    assert pcsc.calls["SCardReconnect"] == RESETS + 1
    context.release()


def test_a_connect_in_the_middle_of_anothers_reset_resets_nothing(pcsc: SimulatedPCSC) -> None:
    card = LogCard(BOTH)
    pcsc.insert("A", card)
    context = pcsc.establish()
    pcsc.inject("SCardConnect", errors.PROTO_MISMATCH)
    handle, protocols = connect(context, "A", card_request())
    assert (handle.protocol, protocols, card.resets) == (Protocol.T1, ANY, 0)
    context.release()


def test_where_counters_lie_the_atr_tells_unless_a_reset_may_have_changed_it() -> None:
    class Warm(LogCard):
        """Answers a reset otherwise than when it is switched on."""

        def reset(self) -> None:
            self.atr = T1

    with SimulatedPCSC("macos") as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", Warm(BOTH))
        context = pcsc.establish()
        handle, protocols = connect(context, "A", card_request())
        seen = reader_state(context, "A")
        now, atr = reconnect(context, handle, "A", seen, ShareMode.SHARED, protocols, Disposition.RESET)
        assert atr == T1
        with pytest.raises(CardRemovedError):  # the first card, from before the reset
            reconnect(context, handle, "A", seen, ShareMode.SHARED, protocols, Disposition.LEAVE)
        assert reconnect(context, handle, "A", now, ShareMode.SHARED, protocols, Disposition.LEAVE)[1] == T1
        context.release()
