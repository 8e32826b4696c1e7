"""Throw-away certificates and keys, so that a federation on one machine speaks TLS as real ones do.

Real hospitals get their server's certificate from an authority they trust already.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CURVE = ec.SECP384R1()
"""The one curve that Flower takes for a SuperNode's key."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the authority's certificate, which all know, and the server's pair."""

    authority: Path
    certificate: Path
    key: Path


def write_tls_files(folder: Path, *, valid_days: float = 2.0) -> TlsFiles:
    """Make an authority and, signed by it, a certificate for ``localhost`` and 127.0.0.1.

    Parameters
    ----------
    valid_days : from an hour ago; negative for a certificate that has expired.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority_key, server_key = (ec.generate_private_key(CURVE) for _ in range(2))
    issuer, subject = _name("fedtutor throw-away CA"), _name("localhost")
    authority = _sign(
        _builder(issuer, issuer, authority_key.public_key(), max(valid_days, 2.0))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True),
        authority_key,
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = _sign(
        _builder(issuer, subject, server_key.public_key(), valid_days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        ),
        authority_key,
    )
    files = TlsFiles(folder / "ca.crt", folder / "server.pem", folder / "server.key")
    files.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_secret(files.key, server_key, serialization.PrivateFormat.TraditionalOpenSSL)
    return files


def write_key_pair(path: Path) -> Path:
    """A hospital's own key: the private half at ``path``, the public one beside it as ``.pub``.

    Only the public half ever leaves the hospital. Returns its path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(CURVE)
    _write_secret(path, key, serialization.PrivateFormat.OpenSSH)
    public = path.with_suffix(".pub")
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    )
    return public


def _write_secret(path: Path, key, form: serialization.PrivateFormat) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(issuer, subject, public_key, valid_days: float) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=valid_days)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, until) - datetime.timedelta(hours=1))
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _sign(builder: x509.CertificateBuilder, key) -> x509.Certificate:
    return builder.sign(key, hashes.SHA384())


def _usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names})
