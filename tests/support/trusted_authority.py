"""The certificates that the clients of tests trust."""

import os
from pathlib import Path

AUTHORITY = Path(__file__).parent / "authority.pem"
VARIABLE = "SSL_CERT_FILE"
BEFORE = "DARKROOM_TESTS_SSL_CERT_FILE"


def trust_one_authority() -> None:
    """Have programs read one certificate instead of all public ones.

    Each client of httpx reads them, for up to 20 ms.
    """
    if BEFORE not in os.environ:
        os.environ[BEFORE] = os.environ.get(VARIABLE, "")
        os.environ[VARIABLE] = str(AUTHORITY)


def environment_before() -> dict[str, str]:
    """Return the environment with the certificates of this machine, which registries need."""
    environment = dict(os.environ)
    if BEFORE in environment:
        environment[VARIABLE] = environment.pop(BEFORE)
    if not environment.get(VARIABLE):  # no file has an empty name
        environment.pop(VARIABLE, None)
    return environment
