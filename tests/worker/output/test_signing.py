"""Files of the certificate: their faults are told at start. Signing opens no socket."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from pydantic import ValidationError

from darkroom.development_certificate import create_certificate
from protocol.startup import InvalidSettings, one_line, read_settings
from tests.support.signing import signing_settings, validation
from tests.worker.consumer.harness import request
from worker.output.image_files import encode
from worker.output.signing import open_signer
from worker.settings import WorkerSettings

CERTIFICATE, KEY = "DARKROOM_WORKER_C2PA_CERTIFICATE", "DARKROOM_WORKER_C2PA_KEY"
Change = Callable[[Path, Path], Any]
SAMPLE = encode(np.zeros((8, 8, 3), np.uint8), request(), seed=1)


def pem(key: Any, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    found: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return found


def reversed_chain(certificate: Path) -> bytes:
    chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    return b"".join(one.public_bytes(Encoding.PEM) for one in reversed(chain))


def of_time(days: int) -> Callable[[Path, Path], None]:
    def change(certificate: Path, key: Path) -> None:
        chain, secret = create_certificate(datetime.now(UTC) + timedelta(days=days))
        certificate.write_bytes(chain)
        key.write_bytes(secret)

    return change


def issuers_key(certificate: Path, key: Path) -> None:
    """Make the chain that of a certificate authority, which may not sign images."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=CA"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    key.chmod(0o600)


def weak_key(certificate: Path, key: Path) -> None:
    command = "openssl req -x509 -newkey rsa:1024 -nodes -subj /CN=weak"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    key.chmod(0o600)


@pytest.mark.parametrize(
    ("change", "variable", "bound"),
    [
        (lambda c, k: c.unlink(), CERTIFICATE, "a file that can be read (No such file"),
        (lambda c, k: (c.unlink(), c.mkdir()), CERTIFICATE, "a file that can be read (Is a dir"),
        (lambda c, k: k.unlink(), KEY, "a file that can be read (No such file"),
        (lambda c, k: c.write_bytes(b"x" * 70_000), CERTIFICATE, "a file of at most 65536 bytes"),
        (lambda c, k: c.write_bytes(b"x"), CERTIFICATE, "a file of certificates in PEM"),
        (lambda c, k: c.write_bytes(k.read_bytes()), CERTIFICATE, "a file of certificates in PEM"),
        (lambda c, k: c.write_bytes(c.read_bytes() * 6), CERTIFICATE, "at most 10 certificates"),
        (lambda c, k: k.write_bytes(b"x"), KEY, "a file of a private key in PEM"),
        (lambda c, k: k.write_bytes(c.read_bytes()), KEY, "a file of a private key in PEM"),
        (
            lambda c, k: k.write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), b"secret")),
            KEY,
            "a key that is not encrypted",
        ),
        (
            lambda c, k: k.write_bytes(pem(ec.generate_private_key(ec.SECP256R1()))),
            KEY,
            "the key of the first certificate in ",
        ),
        (
            lambda c, k: k.write_bytes(pem(ed25519.Ed25519PrivateKey.generate())),
            KEY,
            "the key of the first certificate in ",
        ),
        (
            lambda c, k: c.write_bytes(reversed_chain(c)),
            CERTIFICATE,
            "followed by that of its issuer; certificate 1 is not",
        ),
        (of_time(days=-400), CERTIFICATE, "a chain that is valid now; certificate 1 is from 20"),
        (of_time(days=2), CERTIFICATE, "a chain that is valid now; certificate 1 is from 20"),
        (lambda c, k: k.chmod(0o604), KEY, "no access to (its mode is 604)"),
        (weak_key, KEY, "a key of P-256, P-384, P-521, Ed25519, or RSA with at least 2048 bits"),
        (issuers_key, CERTIFICATE, "a certificate that C2PA accepts ("),
    ],
)
def test_fault_of_a_file_is_told(change: Change, variable: str, bound: str, tmp_path: Path) -> None:
    settings = signing_settings(tmp_path)
    certificate, key = settings.worker_c2pa_certificate, settings.worker_c2pa_key
    assert certificate is not None
    assert key is not None
    change(certificate, key)
    with pytest.raises(InvalidSettings) as found:
        open_signer(settings)
    path = certificate if variable == CERTIFICATE else key
    assert str(found.value).startswith(f'{variable} is "{path}", but must be ')
    assert bound in str(found.value)
    assert str(found.value) == one_line(str(found.value))


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("worker_c2pa_certificate", "worker_c2pa_key"),
        ("worker_c2pa_key", "worker_c2pa_certificate"),
    ],
)
def test_certificate_and_key_are_set_together(
    given: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValidationError, match=f"DARKROOM_{missing.upper()} is not set"):
        WorkerSettings.model_validate({given: Path("/x")})
    monkeypatch.setenv(f"DARKROOM_{given.upper()}", "/x")
    with pytest.raises(InvalidSettings, match=f"DARKROOM_{missing.upper()} is not set, but must"):
        read_settings(WorkerSettings)


def test_files_are_not_signed_by_default() -> None:
    assert open_signer(WorkerSettings()) is None


def test_missing_extra_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "worker.output.signing.find_spec", lambda name: None if name == "c2pa" else find(name)
    )
    with pytest.raises(InvalidSettings, match="c2pa-python is not installed: install darkroom"):
        open_signer(signing_settings(tmp_path))


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_each_kind_of_key_signs(key: Any, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(key))
    (tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "ca.cnf").write_text(
        "[v3]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        "extendedKeyUsage=emailProtection\nsubjectKeyIdentifier=hash\n"
        "authorityKeyIdentifier=keyid\n"
    )
    for command in (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key"
        " -out ca.pem -subj /O=Operator/CN=CA",
        "openssl req -new -key key.pem -subj /O=Operator/CN=signer -out signer.csr",
        "openssl x509 -req -in signer.csr -CA ca.pem -CAkey ca.key -days 90 -set_serial 7"
        " -extfile ca.cnf -extensions v3 -out signer.pem",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    chain = (tmp_path / "signer.pem").read_bytes() + (tmp_path / "ca.pem").read_bytes()
    (tmp_path / "chain.pem").write_bytes(chain)
    sign = open_signer(
        WorkerSettings(
            worker_c2pa_certificate=tmp_path / "chain.pem", worker_c2pa_key=tmp_path / "key.pem"
        )
    )
    assert sign is not None
    file = sign(SAMPLE, request())
    assert validation(file, "image/png") == "Valid"
    assert b"darkroom.certificate" not in file


def test_logs_tell_a_development_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        open_signer(signing_settings(tmp_path))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == "images are signed with a development certificate"


# A filter of system calls: the process is killed if it opens a socket.
WITHOUT_SOCKETS = """
import ctypes, socket, struct, sys
number = {"x86_64": 41, "aarch64": 198}[sys.argv[1]]
rules = (
    struct.pack("HBBI", 0x20, 0, 0, 0),  # load the number of the call
    struct.pack("HBBI", 0x15, 0, 1, number),  # if it is that of socket, go on, else skip one
    struct.pack("HBBI", 0x06, 0, 0, 0x80000000),  # kill the process
    struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000),  # allow
)
code = ctypes.create_string_buffer(b"".join(rules))
program = struct.pack("HP", len(rules), ctypes.addressof(code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
assert libc.prctl(22, 2, program, 0, 0) == 0  # install the filter
"""
SIGN_AND_READ = """
from worker.settings import WorkerSettings
from worker.output.content_credentials import open_credentials
from worker.output.signing_identity import read_identity
open_credentials("", "", read_identity(WorkerSettings()))  # signs an image and verifies it
print("signed")
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="filters system calls of Linux on x86_64 and aarch64",
)
@pytest.mark.parametrize(
    ("code", "status", "output"),
    [(SIGN_AND_READ, 0, "signed\n"), ("socket.socket()", -signal.SIGSYS, "")],
)
def test_signing_opens_no_socket(code: str, status: int, output: str, tmp_path: Path) -> None:
    settings = signing_settings(tmp_path)
    environment = {
        **os.environ,
        CERTIFICATE: str(settings.worker_c2pa_certificate),
        KEY: str(settings.worker_c2pa_key),
    }
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_SOCKETS + code, platform.machine()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (status, output), ended.stderr
