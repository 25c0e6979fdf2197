"""Commands, responses, ATRs, data objects (ISO/IEC 7816): bytes only, no I/O, but for three functions that take an open card.

Built and taken apart: commands by the standard's names (`select`, `read_binary`, `verify` and others), BER-TLV and SIMPLE-TLV data
objects, file control information, ATRs with their interface and historical bytes. In words: status words, instructions, tags, ATRs.
`read_file`, `write_file` and `verify_pin` take an open card of either face: on the async one they are awaited.

The modules:

- `_apdu` has commands and responses, `_atr` the Answer to Reset, `_status` the meanings of status words.
- `_success` has patterns of status words, `_judgement` what they mean for a batch.
- `_exchange` is one command with all its steps, `_tpdu` its encoding for T=0 and T=1; `_channel` (logical channels) and `_layer`
  (secure messaging) change a command before that.
- `_commands` builds commands by name; `_tlv`, `_simple_tlv` and `_file_control` take data objects apart, and build them.
- `_files` (whole files) and `_pin` are exchanges of several commands, which `_open_card` carries out on either face.
- `_tags`, `_historical`, `_interface` and `_instructions` describe bytes in text; `_secrets` decides which commands and responses
  carry secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy_names import load

if TYPE_CHECKING:
    from ._apdu import C_APDU, R_APDU, StatusError
    from ._atr import ATR, Capabilities, HistoricalParts, InterfaceByte
    from ._commands import (
        append_record,
        change_reference_data,
        disable_verification_requirement,
        enable_verification_requirement,
        erase_binary,
        erase_record,
        external_authenticate,
        general_authenticate,
        get_challenge,
        get_data,
        internal_authenticate,
        manage_security_environment,
        put_data,
        read_binary,
        read_record,
        reset_retry_counter,
        select,
        select_file,
        select_path,
        update_binary,
        update_record,
        verify,
        write_binary,
        write_record,
    )
    from ._file_control import FileControl, Structure
    from ._files import FileContents, FileError, FileWrite, read_file, write_file
    from ._historical import explain_historical
    from ._instructions import instruction_name
    from ._interface import ATRPart, explain_atr
    from ._open_card import AsyncSender, SyncSender
    from ._pin import PinTriesError, tries_left, verify_pin
    from ._simple_tlv import SimpleObject, build_simple_tlv, parse_simple_tlv
    from ._status import status_meaning
    from ._tags import tag_name
    from ._tlv import DataObject, TLVError, build_tlv, find_tlv, parse_tlv

__all__ = [
    "ATR",
    "ATRPart",
    "AsyncSender",
    "C_APDU",
    "Capabilities",
    "DataObject",
    "FileContents",
    "FileControl",
    "FileError",
    "FileWrite",
    "HistoricalParts",
    "InterfaceByte",
    "PinTriesError",
    "R_APDU",
    "SimpleObject",
    "StatusError",
    "Structure",
    "SyncSender",
    "TLVError",
    "append_record",
    "build_simple_tlv",
    "build_tlv",
    "change_reference_data",
    "disable_verification_requirement",
    "enable_verification_requirement",
    "erase_binary",
    "erase_record",
    "explain_atr",
    "explain_historical",
    "external_authenticate",
    "find_tlv",
    "general_authenticate",
    "get_challenge",
    "get_data",
    "instruction_name",
    "internal_authenticate",
    "manage_security_environment",
    "parse_simple_tlv",
    "parse_tlv",
    "put_data",
    "read_binary",
    "read_file",
    "read_record",
    "reset_retry_counter",
    "select",
    "select_file",
    "select_path",
    "status_meaning",
    "tag_name",
    "tries_left",
    "update_binary",
    "update_record",
    "verify",
    "verify_pin",
    "write_binary",
    "write_file",
    "write_record",
]

_MODULES = {
    "_apdu": (
        "C_APDU",
        "R_APDU",
        "StatusError",
    ),
    "_atr": (
        "ATR",
        "Capabilities",
        "HistoricalParts",
        "InterfaceByte",
    ),
    "_commands": (
        "append_record",
        "change_reference_data",
        "disable_verification_requirement",
        "enable_verification_requirement",
        "erase_binary",
        "erase_record",
        "external_authenticate",
        "general_authenticate",
        "get_challenge",
        "get_data",
        "internal_authenticate",
        "manage_security_environment",
        "put_data",
        "read_binary",
        "read_record",
        "reset_retry_counter",
        "select",
        "select_file",
        "select_path",
        "update_binary",
        "update_record",
        "verify",
        "write_binary",
        "write_record",
    ),
    "_file_control": (
        "FileControl",
        "Structure",
    ),
    "_files": (
        "FileContents",
        "FileError",
        "FileWrite",
        "read_file",
        "write_file",
    ),
    "_historical": ("explain_historical",),
    "_instructions": ("instruction_name",),
    "_interface": (
        "ATRPart",
        "explain_atr",
    ),
    "_open_card": (
        "AsyncSender",
        "SyncSender",
    ),
    "_pin": (
        "PinTriesError",
        "tries_left",
        "verify_pin",
    ),
    "_simple_tlv": (
        "SimpleObject",
        "build_simple_tlv",
        "parse_simple_tlv",
    ),
    "_status": ("status_meaning",),
    "_tags": ("tag_name",),
    "_tlv": (
        "DataObject",
        "TLVError",
        "build_tlv",
        "find_tlv",
        "parse_tlv",
    ),
}
"""Where each name lives. Its module is loaded when the name is first used: every command needs some, and few need all."""

if not TYPE_CHECKING:  # to a type checker, any name would be one then

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names:
                value = globals()[name] = load(f"{__name__}.{module}", name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
