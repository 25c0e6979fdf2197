"""What owns a handle, a context, a process or a file is neither copied nor pickled, and goes on as if nobody had tried."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scardface import C_APDU, SCard, sync
from scardface._pcsc.binding_choice import system_pcsc
from scardface.replay import Recorder
from scardface.testing import PrivatePcscd, SimulatedPCSC
from tests.support.cards import ECHO, LogCard
from tests.support.faces import both_faces

COPIES: dict[str, Callable[[Any], object]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "the oldest pickle": lambda thing: pickle.dumps(thing, 0),
}
SAY = C_APDU(0, ECHO, 0, 0, b"x")


def refuses(thing: object) -> None:
    for name, make in COPIES.items():
        with pytest.raises(TypeError, match=f"a {type(thing).__name__} owns"):
            pytest.fail(f"{name}: {make(thing)!r}")


@both_faces
@pytest.mark.anyio
async def test_an_open_card(face: Any) -> None:
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("A")
        pcsc.insert("A", LogCard())
        async with face.open(timeout=5) as card:
            real = getattr(card, "card", card)
            refuses(real)
            for part in (real._session, real._session._handle, real._session._context, pcsc):
                refuses(part)
            for holder in ({"card": real}, [real], real.layer(_Layer())):
                with pytest.raises(TypeError, match=r"a (SCard|_Began) owns"):
                    copy.deepcopy(holder)
            gc.collect()
            assert (await card.send(SAY)).data == b"x"


class _Layer:
    def wrap(self, command: C_APDU) -> C_APDU:
        return command

    def unwrap(self, response: Any) -> Any:
        return response


@pytest.mark.parametrize("kind", [SCard, sync.SCard])
def test_a_card_that_is_not_open(kind: Any) -> None:
    refuses(kind.__new__(kind))


def test_the_rest(pcscd: PrivatePcscd, tmp_path: Path) -> None:
    refuses(pcscd)
    pcscd.insert(0, LogCard())
    context = system_pcsc().establish()
    refuses(context)
    context.release()
    with sync.SCard(pcscd.readers[0], timeout=5) as card:
        assert card._session is not None
        refuses(card._session._handle)
        refuses(Recorder(card, tmp_path / "a.cassette"))
        refuses(card.transaction())
        assert card.send(SAY).data == b"x"
