"""scardface.testing._simulated_call: how a call fails that has begun. What pcscd can show: test_conformance_service.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scardface.errors import COMM_ERROR, INVALID_VALUE, NOT_TRANSACTED, SCardError
from scardface.testing._dialects import Dialect
from scardface.testing._simulated_call import CallInProgress
from scardface.testing._simulated_reader import SimulatedReader
from scardface.testing._simulated_service import SimulatedService


@pytest.fixture
def service() -> Iterator[SimulatedService]:
    service = SimulatedService(Dialect(), 16, 200)
    with service.lock:
        service.plug(SimulatedReader(service, "A"))
        yield service


def reader_of(service: SimulatedService) -> SimulatedReader:
    reader = service.find("A")
    assert reader is not None
    return reader


def test_all_is_well(service: SimulatedService) -> None:
    CallInProgress("SCardStatus", service, reader_of(service), INVALID_VALUE).check()


def test_an_error_tells_call_and_reader(service: SimulatedService) -> None:
    error = CallInProgress("SCardStatus", service, reader_of(service), INVALID_VALUE).error(NOT_TRANSACTED)
    assert (error.code, error.call, error.reader) == (NOT_TRANSACTED, "SCardStatus", "A")


@pytest.mark.parametrize(
    ("usual", "here", "code"), [(INVALID_VALUE, None, INVALID_VALUE), (INVALID_VALUE, NOT_TRANSACTED, NOT_TRANSACTED)]
)
def test_the_reader_is_gone(service: SimulatedService, usual: int, here: int | None, code: int) -> None:
    running = CallInProgress("SCardStatus", service, reader_of(service), usual)
    service.unplug(reader_of(service))
    with pytest.raises(SCardError) as caught:
        running.check(here)
    assert caught.value.code == code


def test_for_some_that_is_no_error(service: SimulatedService) -> None:
    running = CallInProgress("SCardDisconnect", service, reader_of(service), None)
    service.unplug(reader_of(service))
    running.check()


def test_the_service_is_gone_even_when_it_is_back(service: SimulatedService) -> None:
    running = CallInProgress("SCardStatus", service, reader_of(service), INVALID_VALUE)
    service.stop()
    service.run_if_due()
    assert service.running
    with pytest.raises(SCardError) as caught:
        running.check()
    assert caught.value.code == COMM_ERROR
