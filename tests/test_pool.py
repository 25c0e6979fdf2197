"""The public names of the pool."""

from __future__ import annotations

import inspect

import scardface
import scardface.pool
from scardface import sync
from scardface._faces import pool as source


def test_both_faces_take_the_same_arguments() -> None:
    assert list(inspect.signature(scardface.pool.CardPool).parameters) == list(inspect.signature(sync.CardPool).parameters)


def test_cards_are_chosen_by_what_scard_takes() -> None:
    """Under the same names, with the same defaults, but for those that make no sense for cards which are kept."""
    ours = inspect.signature(scardface.pool.CardPool).parameters
    theirs = inspect.signature(scardface.SCard).parameters
    assert set(theirs) - set(ours) == {"pnp", "wait_for_reader"}
    for name in set(theirs) & set(ours) - {"timeout"}:
        assert ours[name].default == theirs[name].default, name


def test_the_names_are_those_of_the_face() -> None:
    assert scardface.pool.CardPool is source.CardPool
    assert issubclass(scardface.pool.PinRefusedError, scardface.SCardError)
