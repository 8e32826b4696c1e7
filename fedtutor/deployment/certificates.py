"""Throw-away certificates and keys, so that a federation on one machine speaks TLS as real ones do.

Real hospitals get their server's certificate from an authority they trust already.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_key,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from fedtutor.deployment.private import open_private
from fedtutor.errors import FederationError

CURVE = ec.SECP384R1()
"""The one curve that Flower takes for a SuperNode's key."""

AUTHORITY = "fedtutor throw-away CA"
HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the authority's certificate, which all know, and the server's pair."""

    authority: Path
    certificate: Path
    key: Path


def write_tls_files(folder: Path, addresses: Iterable[str] = ()) -> TlsFiles:
    """Make an authority and, signed by it, a certificate for this machine.

    That is for ``localhost``, 127.0.0.1, and further ``addresses`` or names. Both are valid for two
    days. The authority's own key is written nowhere.
    """
    authority_key, server_key = (ec.generate_private_key(CURVE) for _ in range(2))
    # Of nine uses, in the standard's order, two: to sign certificates and lists of revoked ones.
    uses = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    authority = (
        _builder(AUTHORITY, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(uses, critical=True)
    ).sign(authority_key, hashes.SHA384())
    names = list(map(_name, dict.fromkeys(("localhost", "127.0.0.1", *addresses))))
    by_authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _builder("localhost", server_key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(by_authority, critical=False)
    ).sign(authority_key, hashes.SHA384())
    files = TlsFiles(folder / "ca.crt", folder / "server.pem", folder / "server.key")
    _write_secret(files.key, server_key, PrivateFormat.TraditionalOpenSSL)
    files.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    return files


def _name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def write_key_pair(path: Path) -> Path:
    """Write a hospital's own key: the private half at ``path``, the public one beside it.

    Only the public half, ``.pub``, ever leaves the hospital. Returns its path.
    """
    key = ec.generate_private_key(CURVE)
    _write_secret(path, key, PrivateFormat.OpenSSH)
    public = path.with_suffix(".pub")
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return public


def node_key(text: str) -> bytes:
    """Return a SuperNode's public key as a SuperLink lists it, from its OpenSSH text.

    Raises :class:`FederationError` for any other text.
    """
    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FederationError("that is not a public key in OpenSSH's format.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != CURVE.name:
        raise FederationError(f"a SuperNode's key is of the curve {CURVE.name}.")
    return public_key_to_bytes(key)


def _write_secret(path: Path, key: ec.EllipticCurvePrivateKey, form: PrivateFormat) -> None:
    with open_private(path) as file:
        file.write(key.private_bytes(Encoding.PEM, form, NoEncryption()))


def _builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    names = [x509.Name.from_rfc4514_string(f"CN={name}") for name in (AUTHORITY, subject)]
    now, public = datetime.datetime.now(datetime.UTC), key.public_key()
    return (
        x509.CertificateBuilder()
        .issuer_name(names[0])
        .subject_name(names[1])
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - HOUR)
        .not_valid_after(now + 48 * HOUR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
