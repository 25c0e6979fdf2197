"""`scardface reader`."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

from scardface import Attribute, CardRemovedError, SCardError
from scardface.cli import _reader
from scardface.sync import SCard, ShareMode
from scardface.testing import FileCard, PinPad, SimulatedPCSC
from tests.support.command_line import Command

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd


def test_what_a_reader_without_anything_says(scardface: Command) -> None:
    done = scardface("reader", "--virtual")
    assert (done.status, done.err) == (0, "")
    assert done.out.split() == ["reader", "Virtual", "Reader", "0", "features", "none"]
    [fields] = scardface("reader", "--virtual", "--json").lines
    assert fields == {"reader": "Virtual Reader 0", "features": []}


def test_attributes_features_and_properties() -> None:
    attributes = {
        Attribute.VENDOR_NAME: b"Maker \x1b[31m\0",
        Attribute.MAX_CLK: struct.pack("=I", 4000),
        Attribute.ESC_RESET: b"\1\2",
    }
    with SimulatedPCSC() as pcsc:
        pcsc.add_reader("Pad", controls=PinPad(), attributes=attributes)
        pcsc.insert("Pad", FileCard())
        with SCard(timeout=5, share=ShareMode.DIRECT) as card:
            said = dict(_reader.sayings(card))
    assert "VERIFY_PIN_DIRECT" in said["features"]
    assert said["vendor_name"] == "Maker \x1b[31m"
    assert said["max_clk"] == 4000
    assert said["esc_reset"] == b"\1\2"
    assert _reader._shown(said["esc_reset"]) == "01 02"
    assert _reader._shown(said["features"]).count(",") == len(said["features"]) - 1
    json.dumps({name: value for name, value in said.items() if not isinstance(value, bytes)})


def test_a_reader_that_is_gone_is_an_error() -> None:
    def gone() -> Any:
        raise CardRemovedError("gone", 0x80100069)

    def lacking() -> Any:
        raise SCardError("no such thing", 0x8010001F)

    assert _reader._asked(lacking) is None
    with pytest.raises(CardRemovedError):
        _reader._asked(gone)
    assert _reader._feature(0x77) == "0x77"


def test_one_name_for_a_reader(scardface: Command) -> None:
    done = scardface("reader", "--virtual", "--reader", "0", "--serial", "77")
    assert (done.status, done.out) == (2, "")
    assert "one of the two" in done.err
    done = scardface("reader", "--virtual", "--serial", "77", "--timeout", "60")
    assert done.status == 3


def test_on_pcscd(pcscd: PrivatePcscd, scardface: Command) -> None:
    done = scardface("reader", "--reader", pcscd.readers[1], "--json")
    assert done.status == 0
    assert done.lines == [{"reader": pcscd.readers[1], "features": []}]  # vpcd's driver says no more without a card's protocol
