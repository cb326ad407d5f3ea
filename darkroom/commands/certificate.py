"""`darkroom certificate`: create a development certificate for content credentials."""

import argparse
import os
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from darkroom.arguments import folder

HELP = "create a development certificate for signing images"
CERTIFICATE, KEY = "certificate.pem", "key.pem"


class CannotCertify(RuntimeError):
    """The extra `provenance` is not installed, or a file is in the way."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Create a certificate and its key, with which workers sign images (C2PA content "
        "credentials), and print the settings that name them. They are for development: nobody "
        "trusts the certificate, and each signature says that it is one."
    )
    parser.add_argument(
        "folder", nargs="?", type=folder, default=Path(), help="folder of the files (default: .)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write both files and print the settings that name them."""
    if find_spec("cryptography") is None:
        raise CannotCertify("certificates need darkroom[provenance], which is not installed")
    from darkroom.development_certificate import create_certificate

    target: Path = arguments.folder.resolve()
    target.mkdir(parents=True, exist_ok=True)
    certificate, key = create_certificate(datetime.now(UTC))
    # The key is first: a certificate is there only together with its key.
    for name, content, mode in ((KEY, key, 0o600), (CERTIFICATE, certificate, 0o644)):
        _write_new(target / name, content, mode)
    print(f"DARKROOM_WORKER_C2PA_CERTIFICATE={target / CERTIFICATE}")
    print(f"DARKROOM_WORKER_C2PA_KEY={target / KEY}")
    return 0


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that does not exist yet."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise CannotCertify(f"{path} exists already, and is not replaced") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
