"""The transaction on a handle, and the blocks that share it."""

from __future__ import annotations

from typing import Any

import pytest

from scardface import CardResetError, Disposition, SCardError
from scardface._session.transactions import Transactions
from scardface.errors import NO_SERVICE, RESET_CARD, error_for


class Handle:
    """Notes what is called; raises what is in `errors`, in order."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.errors: list[BaseException | None] = []
        self.transactions = Transactions(self, lambda error: error, lambda: self.did.append("reconnect"))  # type: ignore[arg-type]

    def _do(self, what: str) -> None:
        self.did.append(what)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    def begin_transaction(self) -> None:
        self._do("begin")

    def end_transaction(self, disposition: Disposition) -> None:
        assert disposition is Disposition.LEAVE
        self._do("end")


RESET = error_for(RESET_CARD, "SCardBeginTransaction")


@pytest.fixture
def handle() -> Handle:
    return Handle()


def test_the_outermost_alone_reaches_pcsc(handle: Handle) -> None:
    transactions = handle.transactions
    transactions.begin("outer", False)
    transactions.begin("inner", False)
    for one in ("inner", "outer"):
        transactions.acquire()
        assert transactions.release() is None
        transactions.open.remove(one)
    assert transactions.release() is None
    assert transactions.release() is None
    assert handle.did == ["begin", "end"]


@pytest.mark.parametrize(("resets", "works"), [(1, True), (3, True), (4, False)])
def test_resets_are_outlasted_where_they_are_no_matter(handle: Handle, resets: int, works: bool) -> None:
    handle.errors = [RESET] * resets
    if works:
        handle.transactions.begin("one", True)
        assert handle.did == ["begin", "reconnect"] * resets + ["begin"]
        return
    with pytest.raises(CardResetError):
        handle.transactions.begin("one", True)
    assert (handle.transactions.held, handle.transactions.open) == (False, [])


def test_elsewhere_they_are_told(handle: Handle) -> None:
    handle.errors = [RESET]
    with pytest.raises(CardResetError):
        handle.transactions.acquire()
    assert (handle.did, handle.transactions.held) == (["begin"], False)


def test_an_interrupted_begin_can_be_ended(handle: Handle) -> None:
    handle.errors = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        handle.transactions.begin("one", False)
    handle.transactions.open.remove("one")
    handle.transactions.release()
    assert handle.did == ["begin", "end"]


@pytest.mark.parametrize(("code", "owed"), [(RESET_CARD, True), (NO_SERVICE, False)])
def test_an_end_that_is_refused(handle: Handle, code: int, owed: bool) -> None:
    """pcsc-lite refuses it to a handle that was reset, and keeps its lock."""
    handle.transactions.acquire()
    handle.errors = [error_for(code, "SCardEndTransaction")]
    error: Any = handle.transactions.release()
    assert isinstance(error, SCardError)
    assert (handle.transactions.end_refused, handle.transactions.held) == (owed, False)


def test_what_was_given_up_is_ended_by_who_comes_next(handle: Handle) -> None:
    transactions = handle.transactions
    for one in ("first", "second"):
        transactions.begin(one, False)
    transactions.abandoned_ids.put("first")
    transactions.abandoned_ids.put("unknown")
    transactions.end_abandoned()
    assert (transactions.open, handle.did) == (["second"], ["begin"])
    transactions.abandoned_ids.put("second")
    transactions.end_abandoned()
    assert (transactions.open, handle.did) == ([], ["begin", "end"])
