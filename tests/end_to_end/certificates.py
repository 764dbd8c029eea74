"""Certificates that tests make for themselves."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def issue(place: Path, name: str, common_name: str, issuer: str, days: int = 1) -> None:
    """Write NAME.pem and NAME.key, signed by the key of `issuer`, and valid from 10 days ago on to in `days`."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.load_pem_x509_certificate((place / f"{issuer}.pem").read_bytes()) if issuer != name else None
    signing = serialization.load_pem_private_key((place / f"{issuer}.key").read_bytes(), None) if authority else key
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    subject = x509.Name.from_rfc4514_string(f"CN={common_name},O=Shop")
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(0x1234)
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .sign(signing, hashes.SHA256())
    )
    (place / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (place / f"{name}.key").write_bytes(encoded)
