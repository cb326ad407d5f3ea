"""Certificates for servers of tests."""

import subprocess
from pathlib import Path


def certificates(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """Create a self-signed certificate for `name` and this machine; return it and its key."""
    certificate, secret = folder / "server.crt", folder / "server.key"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}"
    command += f" -addext subjectAltName=DNS:{name},IP:127.0.0.1"
    files = ["-keyout", str(secret), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return certificate, secret
