"""Names of BER-TLV tags.

Rules:

- Interindustry tags are those of ISO/IEC 7816-4:2020 (tables 10, 11 and annex E) and ISO/IEC 7816-6:2016; payment cards' are those
  of EMV 4.3, book 3, annex A. Context-specific tags have a meaning within a template only, so they are looked up by the object that
  contains them: file control information, an application's proprietary part, a payment card's records.
- An unknown tag has no name.
"""

from __future__ import annotations

from ._tlv import DataObject

_NAMES = {
    "06": "object identifier",
    "41": "country code and national data",
    "42": "issuer identification number",
    "43": "card service data",
    "44": "initial access data",
    "45": "card issuer's data",
    "46": "pre-issuing data",
    "47": "card capabilities",
    "48": "status information",
    "4D": "extended header list",
    "4F": "application identifier (AID)",
    "50": "application label",
    "51": "file reference",
    "52": "command to perform",
    "53": "discretionary data",
    "57": "track 2 equivalent data",
    "5A": "primary account number (PAN)",
    "5B": "name",
    "5C": "tag list",
    "5D": "header list",
    "5E": "log-in data",
    "5F20": "cardholder's name",
    "5F24": "application expiration date",
    "5F25": "application effective date",
    "5F28": "issuer's country code",
    "5F2A": "transaction currency code",
    "5F2D": "language preference",
    "5F30": "service code",
    "5F34": "PAN sequence number",
    "5F35": "sex",
    "5F50": "uniform resource locator",
    "5F52": "historical bytes",
    "61": "application template",
    "62": "file control parameters (FCP)",
    "63": "wrapper",
    "64": "file management data (FMD)",
    "65": "cardholder's data",
    "66": "card data",
    "67": "authentication data",
    "6E": "application related data",
    "6F": "file control information (FCI)",
    "70": "record template",
    "73": "discretionary data objects",
    "77": "response template",
    "7A": "security support",
    "7B": "security environment",
    "7C": "dynamic authentication data",
    "7E": "nested interindustry data objects",
    "7F21": "certificate",
    "7F49": "public key",
    "7F4E": "certificate body",
    "9F11": "issuer code table index",
    "9F12": "application preferred name",
    "9F38": "processing options data object list (PDOL)",
    "9F4D": "log entry",
    "BF0C": "issuer's discretionary data",
}
_FILE = {
    "80": "number of data bytes in the file",
    "81": "number of data bytes in the file, structure included",
    "82": "file descriptor",
    "83": "file identifier",
    "84": "DF name",
    "85": "proprietary information",
    "86": "security attributes, proprietary",
    "87": "file with an extension of the file control information",
    "88": "short EF identifier",
    "8A": "life cycle status",
    "8B": "security attributes, referring to the expanded format",
    "8C": "security attributes, compact format",
    "8D": "file with security environments",
    "8E": "channel security attributes",
    "A0": "security attributes for data objects",
    "A1": "security attributes, proprietary template",
    "A5": "proprietary information in data objects",
    "AB": "security attributes, expanded format",
    "AC": "identifiers of cryptographic mechanisms",
}
_APPLICATION = {
    "84": "DF name",
    "87": "application priority indicator",
    "88": "short EF identifier of the directory",
    "9D": "directory definition file's name",
}
_PAYMENT = {
    "80": "response, format 1",
    "82": "application interchange profile",
    "8C": "risk management data object list 1 (CDOL1)",
    "8D": "risk management data object list 2 (CDOL2)",
    "8E": "cardholder verification methods",
    "8F": "index of the certification authority's public key",
    "90": "issuer's public key certificate",
    "92": "issuer's public key, rest",
    "93": "signed static application data",
    "94": "application file locator",
    "9F07": "application usage control",
    "9F08": "application version number",
    "9F0D": "issuer action code, default",
    "9F0E": "issuer action code, denial",
    "9F0F": "issuer action code, online",
    "9F10": "issuer's application data",
    "9F13": "counter of the last online transaction",
    "9F17": "PIN tries left",
    "9F1F": "track 1 discretionary data",
    "9F26": "application cryptogram",
    "9F27": "cryptogram information",
    "9F32": "issuer's public key exponent",
    "9F36": "application transaction counter",
    "9F42": "application currency code",
    "9F44": "application currency exponent",
    "9F46": "card's public key certificate",
    "9F47": "card's public key exponent",
    "9F48": "card's public key, rest",
    "9F49": "dynamic data object list (DDOL)",
    "9F4A": "static data authentication tag list",
    "9F4F": "log format",
}
_WITHIN = {
    "62": _FILE,
    "64": _FILE,
    "6F": _FILE,
    "61": _APPLICATION,
    "A5": _APPLICATION,
    "BF0C": _APPLICATION,
    "70": _PAYMENT,
    "77": _PAYMENT,
}


def tag_name(tag: int | bytes, parent: int | bytes | None = None) -> str:
    """The name of a tag.

    Args:
        tag: as a number or as bytes.
        parent: the tag of the data object that contains it; None: none does.

    Returns:
        The name; empty if it is not known.
    """
    digits = _digits(tag)
    if parent is not None and (found := _WITHIN.get(_digits(parent), {}).get(digits)):
        return found
    if (found := _NAMES.get(digits)) is not None:
        return found
    return _PAYMENT.get(digits, "") if digits.startswith("9F") else ""


def _digits(tag: int | bytes) -> str:
    return (f"{tag:02X}" if tag <= 0xFF else f"{tag:04X}") if isinstance(tag, int) else tag.hex().upper()


def is_likely(objects: tuple[DataObject, ...]) -> bool:
    """Whether bytes that can be parsed as these data objects probably are, since most bytes can be parsed as something."""
    return bool(objects) and tag_name(objects[0].tag) != ""
