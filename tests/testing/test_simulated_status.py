"""scardface.testing._simulated_status: the comparison, what wakes a call, the plug-and-play entry. See also test_conformance.py."""

from __future__ import annotations

import pytest

from scardface._enums import StateFlag
from scardface._pcsc.backend import PNP_READER
from scardface.errors import UNKNOWN_READER
from scardface.testing import SimulatedPCSC
from scardface.testing._dialects import DIALECTS
from scardface.testing._simulated_status import evaluate, is_plug_and_play
from tests.support.conformance import Call, Card, code_of, counter, flags, state_of
from tests.support.waits import wait_until

CHANGED, UNKNOWN, UNAVAILABLE, IGNORE = StateFlag.CHANGED, StateFlag.UNKNOWN, StateFlag.UNAVAILABLE, StateFlag.IGNORE
LONG_MS = 10_000
PCSCLITE = DIALECTS["pcsclite"]


@pytest.mark.parametrize(
    ("given", "news"), [(0, True), (StateFlag.PRESENT, True), (UNKNOWN, False), (UNKNOWN | UNAVAILABLE, False)]
)
def test_a_reader_that_is_gone(given: int, news: bool) -> None:
    entry, ends = evaluate("A", given, None, PCSCLITE)
    assert ends is news
    assert entry == ("A", UNKNOWN | UNAVAILABLE | (CHANGED if news else 0), b"")


def test_a_reader_that_is_gone_and_ignored() -> None:
    assert evaluate("A", IGNORE, None, PCSCLITE) == (("A", 0, b""), False)


def test_the_plug_and_play_entry_has_a_name_of_its_own() -> None:
    assert is_plug_and_play("\\\\?pnp?\\NOTIFICATION")
    assert not is_plug_and_play("\\\\?PnP?\\Notification 00 00")


class TestReadersComeAndGo:
    def test_a_reader_that_goes_ends_a_wait(self) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("A")
            pcsc.add_reader("B")
            context = pcsc.establish()
            state = state_of(context, "B")
            wait = Call(context.get_status_change, LONG_MS, [("A", state_of(context, "A")), ("B", state)])
            assert not wait.ended()
            pcsc.remove_reader("A")
            first, second = wait.result().entries
            assert first.state == UNKNOWN | UNAVAILABLE | CHANGED
            assert second.state == state
            assert code_of(context.get_status_change, 0, [("B", 0), ("A", first.state)]) == UNKNOWN_READER

    def test_who_waits_for_a_reader_that_was_gone(self) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("A")
            context = pcsc.establish()
            change = context.get_status_change(LONG_MS, [("A", UNKNOWN | UNAVAILABLE)])
            assert not change.timed_out
            assert flags(change.entries[0].state) == StateFlag.EMPTY | CHANGED

    def test_a_reader_that_comes_ends_no_wait_for_others(self) -> None:
        with SimulatedPCSC() as pcsc:
            pcsc.add_reader("A")
            context = pcsc.establish()
            wait = Call(context.get_status_change, LONG_MS, [("A", state_of(context, "A")), (PNP_READER, IGNORE)])
            pcsc.add_reader("B")
            assert not wait.ended()
            pcsc.insert("A", Card())
            assert flags(wait.result().entries[0].state) == StateFlag.PRESENT | CHANGED

    @pytest.mark.parametrize("dialect", ["pcsclite", "pcsclite-1.9"])
    def test_the_plug_and_play_entry_tells_of_both(self, dialect: str) -> None:
        with SimulatedPCSC(dialect) as pcsc:  # type: ignore[arg-type]
            context = pcsc.establish()
            for change in (lambda: pcsc.add_reader("A"), lambda: pcsc.remove_reader("A")):
                state = context.get_status_change(0, [(PNP_READER, 0)]).entries[0].state
                wait = Call(context.get_status_change, LONG_MS, [(PNP_READER, state)])
                assert not wait.ended()
                change()
                entry = wait.result().entries[0]
                assert flags(entry.state) == CHANGED
                assert counter(entry.state) == (counter(state) + 1 if dialect == "pcsclite" else 0)

    def test_from_2_3_on_it_tells_of_changes_between_two_calls(self) -> None:
        with SimulatedPCSC() as pcsc:
            context = pcsc.establish()
            state = context.get_status_change(0, [(PNP_READER, 0)]).entries[0].state
            pcsc.add_reader("A")
            assert not context.get_status_change(LONG_MS, [(PNP_READER, state)]).timed_out
            assert context.get_status_change(0, [(PNP_READER, 0)]).timed_out  # who does not feed it back has lost it

    def test_before_those_were_lost(self) -> None:
        with SimulatedPCSC("pcsclite-1.9") as pcsc:
            context = pcsc.establish()
            state = context.get_status_change(0, [(PNP_READER, 0)]).entries[0].state
            pcsc.add_reader("A")
            assert context.get_status_change(0, [(PNP_READER, state)]).timed_out


def test_only_what_was_touched_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card costs a waiting call of a thousand readers one evaluation, not a thousand."""
    from scardface.testing import _simulated_status as status

    with SimulatedPCSC(max_readers=1000) as pcsc:
        for number in range(1000):
            pcsc.add_reader(f"Reader {number}")
        context = pcsc.establish()
        change = context.get_status_change(0, [(name, 0) for name in pcsc.readers])
        evaluated: list[str] = []
        real = status.evaluate

        def watched(name: str, *args: object) -> object:
            evaluated.append(name)
            return real(name, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(status, "evaluate", watched)
        wait = Call(context.get_status_change, LONG_MS, [(name, state & ~int(CHANGED)) for name, state, _ in change.entries])
        wait_until(lambda: len(evaluated) == 1000)  # its first evaluation; what comes now wakes it
        evaluated.clear()
        pcsc.insert(500, Card())
        assert len(wait.result().entries) == 1000
        assert evaluated == ["Reader 500"]
