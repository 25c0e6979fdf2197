"""Certificates for a fleet, made anew for each test: an authority's, and what it signed."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any


def make_certificates(folder: Path) -> Path:
    """An authority's, and one each for the scheduler, a host and a client."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)

    def signed(name: str, issuer: str, key: Any, by: Any, authority: bool) -> bytes:
        names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
        builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=2))
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        # What Python 3.13 and later ask of a chain (ssl.VERIFY_X509_STRICT; RFC 5280, 4.2.1.1 to 4.2.1.3).
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        builder = builder.add_extension(x509.KeyUsage(not authority, *[False] * 4, *[authority] * 2, False, False), critical=True)
        return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority = ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.pem").write_bytes(signed("fleet", "fleet", authority, authority, True))
    for name in ("scheduler", "host", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{name}.pem").write_bytes(signed(name, "fleet", key, authority, False))
        pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(key.private_bytes(*pem))
    return folder
