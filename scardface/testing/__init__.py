"""For tests without hardware: virtual cards, and a real PC/SC service of the test's own to put them in."""

from __future__ import annotations

from ._card_files import DF, EF
from ._file_card import FileCard
from ._pcscd_needs import PcscdUnavailable
from ._pin_pad import PinPad
from ._private_pcscd import PrivatePcscd
from ._scp03_card import Scp03Card
from ._simulated_pcsc import SimulatedPCSC
from ._virtual_card import VirtualCard

__all__ = ["DF", "EF", "FileCard", "PcscdUnavailable", "PinPad", "PrivatePcscd", "Scp03Card", "SimulatedPCSC", "VirtualCard"]
