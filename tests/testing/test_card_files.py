"""scardface.testing._card_files: files, and what is told about them."""

from __future__ import annotations

from typing import Any

import pytest

from scardface.testing import DF, EF
from scardface.testing._card_files import all_dfs, control_parameters, tlv


@pytest.mark.parametrize(
    "arguments",
    [
        {"file_id": -1},
        {"file_id": 0x10000},
        {"content": bytes(0x8001)},
        {"sfi": 0},
        {"sfi": 31},
    ],
)
def test_an_ef_outside_its_ranges_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        EF(**{"file_id": 1, "content": b"", **arguments})


@pytest.mark.parametrize("arguments", [{"file_id": 0x10000}, {"name": bytes(17)}])
def test_a_df_outside_its_ranges_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        DF(**{"file_id": 1, **arguments})


def test_the_edges_are_allowed() -> None:
    EF(0xFFFF, bytes(0x8000), sfi=30)
    EF(0, b"", sfi=1)
    DF(0xFFFF, bytes(16))


def test_content_is_not_shown() -> None:
    assert "secret" not in repr(DF(1, files=[EF(2, b"secret")]))


def test_all_dfs_goes_all_the_way_down() -> None:
    deep = DF(3)
    mf = DF(1, files=[EF(9, b""), DF(2, files=[deep]), DF(4)])
    assert [df.file_id for df in all_dfs(mf)] == [1, 2, 3, 4]


def test_control_parameters() -> None:
    assert control_parameters(EF(0x0102, bytes(0x0304), sfi=5)).hex(" ") == "80 02 03 04 82 01 01 83 02 01 02 88 01 28"
    assert control_parameters(EF(0x0102, b"")).hex(" ") == "80 02 00 00 82 01 01 83 02 01 02"
    assert control_parameters(DF(0x0102, b"\xa0\x01")).hex(" ") == "82 01 38 83 02 01 02 84 02 a0 01"
    assert control_parameters(DF(0x0102)).hex(" ") == "82 01 38 83 02 01 02"


def test_tlv() -> None:
    assert tlv(0x84, b"\x01\x02") == b"\x84\x02\x01\x02"
