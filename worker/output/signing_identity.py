"""The operator's certificate chain and private key for content credentials, read and checked.

The only module of the worker that uses `cryptography`, which comes with the extra `provenance`.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from protocol.recipes.provenance import DEVELOPMENT
from protocol.startup import InvalidSettings, invalid_setting
from worker.settings import WorkerSettings

MAX_BYTES = 2**16  # of either file
MAX_CERTIFICATES = 10
MIN_RSA_BITS = 2048
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class SigningIdentity:
    """A certificate chain and its key, both PEM, and the name that C2PA gives their algorithm."""

    chain: bytes
    key: bytes
    algorithm: str
    ends_at: datetime
    is_development: bool


def read_identity(settings: WorkerSettings) -> SigningIdentity:
    """Return the identity that the settings name. Raises InvalidSettings for the first fault."""
    certificate, secret = settings.worker_c2pa_certificate, settings.worker_c2pa_key
    assert certificate is not None
    assert secret is not None
    for_certificate = _Setting(settings.variable("worker_c2pa_certificate"), certificate)
    for_key = _Setting(settings.variable("worker_c2pa_key"), secret)
    chain_pem, key_pem = for_certificate.read(), for_key.read()
    chain, key = _chain(for_certificate, chain_pem), _key(for_key, key_pem)
    _check_chain(for_certificate, chain)
    if key.public_key().public_bytes(*_PUBLIC) != chain[0].public_key().public_bytes(*_PUBLIC):
        raise for_key.invalid(f"the key of the first certificate in {certificate}")
    for_key.check_private()
    return SigningIdentity(
        chain_pem,
        key_pem,
        _algorithm(for_key, key),
        min(one.not_valid_after_utc for one in chain),
        any(name.value == DEVELOPMENT for one in chain for name in one.subject),
    )


_PUBLIC = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class _Setting:
    """A variable and the file that it names."""

    variable: str
    path: Path

    def invalid(self, bound: str) -> InvalidSettings:
        return invalid_setting(self.variable, self.path, bound)

    def read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise self.invalid(f"a file that can be read ({reason})") from error
        if len(content) > MAX_BYTES:
            raise self.invalid(f"a file of at most {MAX_BYTES} bytes")
        return content

    def check_private(self) -> None:
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if mode & stat.S_IRWXO:
            raise self.invalid(f"a file that other users have no access to (its mode is {mode:o})")


def _chain(setting: _Setting, pem: bytes) -> list[x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise setting.invalid("a file of certificates in PEM") from error
    if len(chain) > MAX_CERTIFICATES:
        raise setting.invalid(f"a file of at most {MAX_CERTIFICATES} certificates")
    return chain


def _key(setting: _Setting, pem: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise setting.invalid("a key that is not encrypted") from error
    except ValueError as error:
        raise setting.invalid("a file of a private key in PEM") from error


def _check_chain(setting: _Setting, chain: list[x509.Certificate]) -> None:
    """Check the order of the chain, and that all of it is valid now."""
    for number, (one, issuer) in enumerate(pairwise(chain), 1):
        try:
            one.verify_directly_issued_by(issuer)
        except (InvalidSignature, TypeError, ValueError) as error:
            bound = "a chain in which each certificate is followed by that of its issuer"
            raise setting.invalid(f"{bound}; certificate {number} is not") from error
    now = datetime.now(UTC)
    for number, one in enumerate(chain, 1):
        begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
        if not begins <= now <= ends:
            valid = f"from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}"
            raise setting.invalid(f"a chain that is valid now; certificate {number} is {valid}")


def _algorithm(setting: _Setting, key: PrivateKeyTypes) -> str:
    match key:
        case ec.EllipticCurvePrivateKey() if key.curve.name in CURVES:
            return CURVES[key.curve.name]
        case rsa.RSAPrivateKey() if key.key_size >= MIN_RSA_BITS:
            return "ps256"
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
    kinds = f"a key of P-256, P-384, P-521, Ed25519, or RSA with at least {MIN_RSA_BITS} bits"
    raise setting.invalid(kinds)
