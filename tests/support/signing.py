"""Files of a development certificate, and verification with the library's own reader."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import c2pa

from darkroom.development_certificate import create_certificate
from worker.output.content_credentials import ContentCredentials, open_credentials
from worker.output.signing_identity import read_identity
from worker.settings import WorkerSettings


def signing_settings(folder: Path) -> WorkerSettings:
    """Create a development certificate in `folder` and return settings that name it."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    for file, content in zip(
        (certificate, key), create_certificate(datetime.now(UTC)), strict=True
    ):
        file.write_bytes(content)
        file.chmod(0o600)
    return WorkerSettings(worker_c2pa_certificate=certificate, worker_c2pa_key=key)


def credentials(folder: Path) -> ContentCredentials:
    """Return the signer with a new development certificate in `folder`."""
    return open_credentials("certificate", folder, read_identity(signing_settings(folder)))


def validation(file: bytes, kind: str) -> str:
    """Return the state of a file's credentials; "unreadable" if the reader refuses the file."""
    try:
        with c2pa.Reader(kind, io.BytesIO(file)) as reader:
            return str(reader.get_validation_state())
    except c2pa.C2paError:
        return "unreadable"


def manifest(file: bytes, kind: str) -> dict[str, Any]:
    """Return the active manifest of a file."""
    with c2pa.Reader(kind, io.BytesIO(file)) as reader:
        store = json.loads(reader.json())
    found: dict[str, Any] = store["manifests"][store["active_manifest"]]
    return found
