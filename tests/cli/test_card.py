"""`scardface uid` and `scardface reset`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from scardface.cli._card import reset, uid
from scardface.cli._virtual import virtual_pcsc
from scardface.testing import VirtualCard
from tests.support.command_line import Command

if TYPE_CHECKING:
    from scardface.testing import PrivatePcscd


class Tag(VirtualCard):
    """A contactless card, together with its reader."""

    def process(self, command: bytes) -> bytes:
        return (b"\x04\xa1\xb2\xc3" if command[2] == 0 else b"\x78\x80") + b"\x90\x00"


@pytest.mark.parametrize(
    ("options", "out"),
    [
        ([], "04 A1 B2 C3\n"),
        (["--ats"], "78 80\n"),
        (["--json"], '{"reader": "Virtual Reader 0", "uid": "04A1B2C3"}\n'),
        (["--ats", "--json"], '{"reader": "Virtual Reader 0", "ats": "7880"}\n'),
    ],
)
def test_a_uid(options: list[str], out: str) -> None:
    with virtual_pcsc(Tag()):
        done = CliRunner().invoke(uid, options, standalone_mode=False)
    assert (done.exception, done.output) == (None, out)


def test_a_reader_that_does_not_tell(scardface: Command) -> None:
    done = scardface("uid", "--virtual")
    assert (done.status, done.out) == (1, "")
    assert "is it a contactless reader" in done.err


@pytest.mark.parametrize("options", [[], ["--cold"]])
def test_a_reset(options: list[str]) -> None:
    class Counting(Tag):
        resets = power_ons = 0

        def reset(self) -> None:
            self.resets += 1

        def power_on(self) -> None:
            self.power_ons += 1

    card = Counting()
    with virtual_pcsc(card):
        before = card.power_ons
        done = CliRunner().invoke(reset, [*options, "--shared"], standalone_mode=False)
    assert done.exception is None
    assert done.output.endswith("in Virtual Reader 0\n")
    assert (card.resets, card.power_ons - before) == ((0, 1) if options else (1, 0)) or card.power_ons > before


def test_on_pcscd(pcscd: PrivatePcscd, scardface: Command) -> None:
    from scardface.testing import FileCard

    card = FileCard()
    pcscd.insert(0, card)
    pcscd.wait_for_card(0)
    [fields] = scardface("reset", "--json", "--timeout", "30").lines
    assert (fields["atr"], fields["protocol"]) == (card.atr.hex().upper(), "T1")
