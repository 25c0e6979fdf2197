"""The simulated PC/SC does what the real pcscd does: contexts, lists and status calls.

This is the first of the modules `test_conformance*`, one suite. Each test runs in the simulation and against the pcscd of this
machine, at the level of the backend, and asserts the same of both: codes, flags, counters, order. Where a test fails in one of them
only, the simulation is wrong.

What the real one cannot be made to do here is tested with the simulation alone (test_simulated_*.py): readers that come and go,
since pcscd has no hot plug without USB (fact 53); what the plug-and-play entry says then, on which versions of pcscd differ; a card
that is in when the service starts; more than 16 readers; Windows and macOS.

Status calls that are to succeed are `status_change`: the backend's own call, made again where pcscd 2.5 calls a reader unknown that
is there (fact 17).
"""

from __future__ import annotations

import time

import pytest

from scardface._enums import Disposition, Protocol, ShareMode, StateFlag
from scardface._pcsc.backend import PNP_READER, Context, takes_reader_name
from scardface._pcsc.reader_states import status_change
from scardface.errors import CANCELLED, INVALID_HANDLE, INVALID_PARAMETER, NO_SERVICE, SECURITY_VIOLATION, UNKNOWN_READER
from tests.support.conformance import A_WHILE, T0_AND_T1, Call, Card, World, code_of, counter, flags, share, state_of

CHANGED, EMPTY, PRESENT, MUTE = StateFlag.CHANGED, StateFlag.EMPTY, StateFlag.PRESENT, StateFlag.MUTE
UNAWARE, IGNORE, UNKNOWN, UNAVAILABLE = StateFlag.UNAWARE, StateFlag.IGNORE, StateFlag.UNKNOWN, StateFlag.UNAVAILABLE
T0 = bytes.fromhex("3B02A1B2")
"""An ATR that offers T=0 alone. pcscd 2.5.2 takes none of less than four bytes."""
WHILE_MS = int(1000 * A_WHILE)
LONG_MS = 10_000
INTERNAL_ERROR, NO_MEMORY = 0x80100001, 0x80100006


class TestContexts:
    def test_readers_are_listed_in_their_order(self, world: World, context: Context) -> None:
        assert context.list_readers() == world.listed

    def test_groups_to_list_are_ignored(self, world: World, context: Context) -> None:
        assert context.list_readers(["no such group"]) == world.listed

    def test_there_is_one_group(self, context: Context) -> None:
        assert context.list_reader_groups() == ("SCard$DefaultReaders",)

    def test_a_released_context_is_no_context(self, context: Context, reader: str) -> None:
        context.release()
        assert code_of(context.list_readers) == INVALID_HANDLE
        assert code_of(context.list_reader_groups) == INVALID_HANDLE
        assert code_of(context.get_status_change, 0, [(reader, 0)]) == INVALID_HANDLE
        assert code_of(share, context, reader) == INVALID_HANDLE
        assert code_of(context.release) == INVALID_HANDLE

    def test_cancelling_what_does_not_wait_is_no_error(self, context: Context) -> None:
        context.cancel()
        context.release()
        context.cancel()

    def test_a_release_closes_handles(self, world: World, context: Context, other: Context, reader: str) -> None:
        handle = context.connect(reader, ShareMode.DIRECT, Protocol.UNDEFINED)
        context.release()
        assert code_of(handle.status) == INVALID_HANDLE
        assert code_of(handle.disconnect, Disposition.LEAVE) == INVALID_HANDLE

    def test_there_are_200_contexts(self, world: World) -> None:
        contexts: list[Context] = []
        try:
            while len(contexts) < 200:
                contexts.append(world.backend.establish())
            assert code_of(world.backend.establish) in (NO_SERVICE, SECURITY_VIOLATION)  # pcscd's mood decides which (fact 8)
        finally:
            for context in contexts:
                context.release()
        world.backend.establish().release()

    def test_a_reader_has_200_handles(self, context: Context, other: Context, reader: str) -> None:
        for _ in range(200):
            context.connect(reader, ShareMode.DIRECT, Protocol.UNDEFINED)
        assert code_of(other.connect, reader, ShareMode.DIRECT, Protocol.UNDEFINED) == INTERNAL_ERROR

    def test_a_context_has_200_handles(self, world: World, context: Context) -> None:
        for count in range(200):
            context.connect(world.readers[count % 2], ShareMode.DIRECT, Protocol.UNDEFINED)
        assert code_of(context.connect, world.readers[2], ShareMode.DIRECT, Protocol.UNDEFINED) == NO_MEMORY


class TestStatusOfAnEmptyReader:
    def test_who_is_unaware_is_told_at_once(self, context: Context, reader: str) -> None:
        change = status_change(context, LONG_MS, [(reader, UNAWARE)])
        (entry,) = change.entries
        assert not change.timed_out
        assert (entry.reader, flags(entry.state), entry.atr) == (reader, EMPTY | CHANGED, b"")

    def test_who_knows_already_waits_in_vain(self, context: Context, reader: str) -> None:
        state = state_of(context, reader)
        begin = time.monotonic()
        change = status_change(context, WHILE_MS, [(reader, state)])
        assert change.timed_out
        assert time.monotonic() - begin >= A_WHILE * 0.9
        assert [(entry.reader, entry.state, entry.atr) for entry in change.entries] == [(reader, state, b"")]

    def test_with_no_time_nobody_waits(self, context: Context, reader: str) -> None:
        change = status_change(context, 0, [(reader, state_of(context, reader))])
        assert change.timed_out
        assert flags(change.entries[0].state) == EMPTY

    def test_changed_is_not_compared(self, context: Context, reader: str) -> None:
        state = state_of(context, reader)
        assert status_change(context, 0, [(reader, state | CHANGED)]).timed_out
        assert not status_change(context, 0, [(reader, CHANGED)]).timed_out  # unaware, that is

    @pytest.mark.parametrize("given", [PRESENT, UNKNOWN, UNAVAILABLE, StateFlag.INUSE, StateFlag.EXCLUSIVE, PRESENT | MUTE])
    def test_who_believes_something_else_is_told_at_once(self, context: Context, reader: str, given: StateFlag) -> None:
        change = status_change(context, LONG_MS, [(reader, given)])
        assert not change.timed_out
        assert flags(change.entries[0].state) == EMPTY | CHANGED

    @pytest.mark.parametrize("given", [EMPTY | MUTE, StateFlag.UNPOWERED, StateFlag.ATRMATCH])
    def test_what_is_not_compared_ends_no_wait(self, context: Context, reader: str, given: StateFlag) -> None:
        change = status_change(context, 0, [(reader, given)])
        assert change.timed_out
        assert flags(change.entries[0].state) == EMPTY

    def test_a_wrong_counter_is_told_at_once(self, context: Context, reader: str) -> None:
        state = state_of(context, reader)
        change = status_change(context, LONG_MS, [(reader, EMPTY | (counter(state) + 7) << 16)])
        assert not change.timed_out
        assert change.entries[0].state == state | CHANGED

    def test_ignored_readers_are_not_evaluated(self, world: World, context: Context) -> None:
        world.clear()
        first, second = world.readers[:2]
        change = context.get_status_change(LONG_MS, [(first, IGNORE), (second, UNAWARE)])
        assert not change.timed_out
        assert [(entry.state & 0xFFFF, entry.atr) for entry in change.entries] == [(0, b""), (EMPTY | CHANGED, b"")]

    def test_nothing_but_ignored_readers_is_nothing_to_wait_for(self, context: Context, reader: str) -> None:
        change = context.get_status_change(LONG_MS, [(reader, IGNORE)])
        assert not change.timed_out
        assert [entry.state for entry in change.entries] == [0]

    def test_no_readers_are_nothing_to_wait_for(self, context: Context) -> None:
        assert status_change(context, LONG_MS, []) == (False, [])
        context.release()
        assert status_change(context, LONG_MS, []) == (False, [])

    @pytest.mark.parametrize("given", [UNAWARE, IGNORE])
    def test_an_unknown_name_fails_the_whole_call(self, context: Context, reader: str, given: StateFlag) -> None:
        assert code_of(context.get_status_change, LONG_MS, [(reader, 0), ("no such reader", given)]) == UNKNOWN_READER

    def test_names_are_compared_letter_by_letter(self, context: Context, reader: str) -> None:
        assert code_of(context.get_status_change, 0, [(reader.upper(), 0)]) == UNKNOWN_READER

    def test_sixteen_entries_are_never_too_many(self, world: World, context: Context, reader: str) -> None:
        assert len(status_change(context, 0, [(reader, 0)] * 16).entries) == 16
        refused = code_of(context.get_status_change, 0, [(reader, 0)] * 17)
        assert refused == (0 if world.takes_seventeen else INVALID_PARAMETER)

    def test_entries_come_back_in_their_order(self, world: World, context: Context) -> None:
        names = [*reversed(world.readers), world.readers[1], world.readers[1]]
        change = status_change(context, 0, [(name, 0) for name in names])
        assert [entry.reader for entry in change.entries] == names

    @pytest.mark.parametrize("name", ["L\u00e9cteur", "two\0names"])
    def test_a_name_that_the_backend_does_not_take_is_refused(self, world: World, context: Context, name: str) -> None:
        if takes_reader_name(world.backend, name):
            assert code_of(context.get_status_change, 0, [(name, 0)]) == UNKNOWN_READER
        else:
            with pytest.raises(ValueError, match="reader name"):
                context.get_status_change(0, [(name, 0)])

    @pytest.mark.parametrize("name", [PNP_READER, PNP_READER.lower()])
    def test_the_plug_and_play_entry_waits(self, context: Context, reader: str, name: str) -> None:
        change = status_change(context, 0, [(name, UNAWARE)])
        assert change.timed_out
        assert flags(change.entries[0].state) == UNAWARE
        state = change.entries[0].state
        change = status_change(context, WHILE_MS, [(name, state), (reader, state_of(context, reader))])
        assert change.timed_out
        assert change.entries[0].state == state

    def test_the_plug_and_play_entry_goes_with_others(self, context: Context, reader: str) -> None:
        change = status_change(context, LONG_MS, [(PNP_READER, UNAWARE), (reader, UNAWARE)])
        assert not change.timed_out
        assert [flags(entry.state) for entry in change.entries] == [UNAWARE, EMPTY | CHANGED]


class TestCardsComeAndGo:
    def test_an_insertion_ends_a_wait(self, world: World, context: Context, reader: str) -> None:
        state = state_of(context, reader)
        wait = Call(status_change, context, LONG_MS, [(reader, state)])
        world.insert(0, Card())
        change = wait.result()
        assert not change.timed_out
        assert flags(change.entries[0].state) == PRESENT | CHANGED
        assert counter(change.entries[0].state) == counter(state) + 1
        assert change.entries[0].atr == T0_AND_T1

    def test_a_removal_ends_a_wait(self, world: World, context: Context, reader: str) -> None:
        world.insert(0, Card())
        state = state_of(context, reader)
        wait = Call(status_change, context, LONG_MS, [(reader, state)])
        world.remove(0)
        change = wait.result()
        assert not change.timed_out
        assert flags(change.entries[0].state) == EMPTY | CHANGED
        assert counter(change.entries[0].state) == counter(state) + 1
        assert change.entries[0].atr == b""

    def test_the_answer_tells_of_all_readers(self, world: World, context: Context) -> None:
        world.clear()
        states = [(name, state_of(context, name)) for name in world.readers]
        wait = Call(status_change, context, LONG_MS, states)
        world.insert(2, Card())
        entries = wait.result().entries
        assert [entry.reader for entry in entries] == list(world.readers)
        assert [flags(entry.state) for entry in entries] == [EMPTY, EMPTY, PRESENT | CHANGED, EMPTY]

    def test_other_readers_end_no_wait(self, world: World, context: Context, reader: str) -> None:
        wait = Call(status_change, context, LONG_MS, [(reader, state_of(context, reader))])
        world.insert(1, Card())
        assert not wait.ended()
        world.insert(0, Card())
        assert flags(wait.result().entries[0].state) == PRESENT | CHANGED

    def test_everybody_who_waits_is_woken(self, world: World, context: Context, other: Context, reader: str) -> None:
        state = state_of(context, reader)
        waits = [Call(status_change, one, LONG_MS, [(reader, state)]) for one in (context, other)]
        world.insert(0, Card())
        assert [wait.result().timed_out for wait in waits] == [False, False]

    def test_who_is_unaware_is_told_of_a_card(self, world: World, context: Context, reader: str) -> None:
        before = counter(state_of(context, reader))
        world.insert(0, Card(T0))
        (entry,) = status_change(context, LONG_MS, [(reader, UNAWARE)]).entries
        assert flags(entry.state) == PRESENT | CHANGED
        assert (counter(entry.state), entry.atr) == (before + 1, T0)

    def test_the_longest_atr(self, world: World, context: Context, reader: str) -> None:
        atr = bytes.fromhex("3bff11ffffffff81ffffff31ffff4f") + bytes(15) + b"\xff"
        world.insert(0, Card(atr + bytes(33 - len(atr))))
        assert len(status_change(context, 0, [(reader, UNAWARE)]).entries[0].atr) == 33

    def test_a_visit_between_two_calls_is_counted(self, world: World, context: Context, reader: str) -> None:
        world.insert(0, Card())
        state = state_of(context, reader)
        world.remove(0)
        world.insert(0, Card())
        change = status_change(context, LONG_MS, [(reader, state)])
        assert not change.timed_out
        assert flags(change.entries[0].state) == PRESENT | CHANGED
        assert counter(change.entries[0].state) == counter(state) + 2

    def test_with_a_counter_of_zero_such_a_visit_is_not_seen(self, world: World, context: Context, reader: str) -> None:
        world.insert(0, Card())
        state = state_of(context, reader)
        world.remove(0)
        world.insert(0, Card())
        change = status_change(context, 0, [(reader, flags(state))])
        assert change.timed_out
        assert flags(change.entries[0].state) == PRESENT
        assert counter(change.entries[0].state) == counter(state) + 2  # but it is told (fact 10)

    def test_a_mute_card_is_present_and_has_no_atr(self, world: World, context: Context, reader: str) -> None:
        world.insert(0, Card(b""))
        (entry,) = status_change(context, 0, [(reader, UNAWARE)]).entries
        assert flags(entry.state) == PRESENT | MUTE | CHANGED
        assert entry.atr == b""

    def test_that_a_card_is_mute_is_compared(self, world: World, context: Context, reader: str) -> None:
        world.insert(0, Card(b""))
        state = state_of(context, reader)
        assert status_change(context, 0, [(reader, state)]).timed_out
        assert not status_change(context, 0, [(reader, state & ~int(MUTE))]).timed_out


class TestCancel:
    def test_a_cancel_that_comes_too_early_is_lost(self, context: Context, reader: str) -> None:
        state = state_of(context, reader)
        context.cancel()
        assert status_change(context, WHILE_MS, [(reader, state)]).timed_out

    def test_a_cancel_ends_a_wait(self, context: Context, reader: str) -> None:
        assert code_of_cancelled(context, waiting(context, reader)) == CANCELLED

    def test_a_cancel_does_not_reach_the_next_wait(self, context: Context, reader: str) -> None:
        assert code_of_cancelled(context, waiting(context, reader)) == CANCELLED
        context.cancel()
        assert status_change(context, WHILE_MS, [(reader, state_of(context, reader))]).timed_out

    def test_a_cancel_of_another_context_does_nothing(self, context: Context, other: Context, reader: str) -> None:
        wait = waiting(context, reader)
        other.cancel()
        assert not wait.ended()
        assert code_of_cancelled(context, wait) == CANCELLED

    def test_an_event_comes_before_a_later_cancel(self, world: World, context: Context, reader: str) -> None:
        wait = waiting(context, reader)
        world.insert(0, Card())
        change = wait.result()
        context.cancel()
        assert not change.timed_out


def waiting(context: Context, reader: str) -> Call:
    """A status call that waits, on any but a very slow machine."""
    wait = Call(status_change, context, LONG_MS, [(reader, state_of(context, reader))])
    assert not wait.ended()
    return wait


def code_of_cancelled(context: Context, wait: Call) -> int:
    """What a status call answers that is cancelled, if need be more than once."""
    context.cancel()
    while not wait.ended():
        context.cancel()
    return wait.code()
