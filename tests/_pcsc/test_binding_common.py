"""What both bindings keep."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from scardface import Disposition, Protocol, SCardError, ServiceUnavailableError, ShareMode
from scardface._pcsc.binding_common import BRIEF_CALLS, contexts_lock, is_no_reader, unsigned
from scardface._pcsc.ctypes_binding import PCSC_LITE, signatures
from scardface.backend import Backend, Ctypes, Pyscard
from scardface.errors import NO_READERS_AVAILABLE, NO_SERVICE, error_for
from scardface.testing import PrivatePcscd
from scardface.testing._dialects import DIALECTS
from tests.support.conformance import Call


def test_numbers_have_no_sign() -> None:
    assert [unsigned(number) for number in (-1, 0x8010001D - 0x1_0000_0000, 5)] == [0xFFFFFFFF, 0x8010001D, 5]


def test_no_reader_is_no_error() -> None:
    assert is_no_reader(error_for(NO_READERS_AVAILABLE, "SCardListReaders"), pcsc_lite=True)
    assert not is_no_reader(error_for(NO_SERVICE, "SCardListReaders"), pcsc_lite=True)


def test_a_table_that_cannot_shrink_is_told_where_it_is_pcsc_lites() -> None:
    error = SCardError("?", 0x8010001F, "SCardListReaders")
    with pytest.raises(ServiceUnavailableError, match="restart this program") as caught:
        is_no_reader(error, pcsc_lite=True)
    assert (caught.value.code, caught.value.call) == (0x8010001F, "SCardListReaders")
    assert not is_no_reader(error, pcsc_lite=False)


DIALECT = {"linux": "pcsclite", "darwin": "macos", "win32": "windows"}

_SAYS = """
import sys
sys.platform = sys.argv[1]
from scardface._pcsc import ctypes_binding
from scardface._pcsc.backend import reconnect_ends_transaction
CTYPES = ctypes_binding.CTYPES
print(CTYPES.absent_service_means_no_reader, CTYPES.release_disconnects, reconnect_ends_transaction(CTYPES))
"""


@pytest.mark.parametrize("platform", DIALECT)
def test_a_binding_does_on_a_platform_what_the_simulations_dialect_does(platform: str) -> None:
    """So what is tested in the dialect of a platform holds for the binding there, as far as the library asks it."""
    dialect = DIALECTS[DIALECT[platform]]
    assert dialect.platform in (platform, None)  # None: the machine's own
    told = subprocess.run([sys.executable, "-c", _SAYS, platform], capture_output=True, text=True, timeout=60)
    assert told.stdout.split() == [
        str(each) for each in (dialect.needs_reader, dialect.release_disconnects, dialect.reconnect_ends_transaction)
    ], told.stderr


def test_the_lock_is_one_for_both_bindings() -> None:
    from scardface._pcsc import ctypes_binding, pyscard

    assert ctypes_binding.contexts_lock is pyscard.contexts_lock is contexts_lock


def test_brief_calls_are_calls() -> None:
    assert set(signatures(PCSC_LITE)) >= BRIEF_CALLS


@pytest.mark.parametrize("choose", [Pyscard, Ctypes])
def test_the_list_of_contexts_is_changed_and_walked_by_one_at_a_time(choose: Callable[[], Backend], pcscd: PrivatePcscd) -> None:
    """Else SCardDisconnect may crash the process (fact 54); what needs no list waits for nobody."""
    backend = choose()
    context = backend.establish()
    handle = context.connect(pcscd.readers[0], ShareMode.DIRECT, Protocol.UNDEFINED)
    for call in (backend.establish, lambda: handle.disconnect(Disposition.LEAVE), context.release):
        with contexts_lock.current:
            if call != context.release:
                Call(context.list_readers).result()
                Call(context.get_status_change, 0, [(pcscd.readers[0], 0)]).result()
            Call(context.cancel).result()
            waiting = Call(call)
            assert not waiting.ended()
        made = waiting.result()
        if made is not None:
            made.release()
