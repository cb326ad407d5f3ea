"""Embedded Redis-compatible server of the local stack.

It listens only on a unix socket in a folder that is private to the user, and requires a password
that is new at each start. Every acknowledged write is on disk (`appendfsync always`), so an
accepted job survives a crash of any process. The server process holds a lock on its folder, so a
folder has at most one server.
"""

import asyncio
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from darkroom.processes.process import Program
from darkroom.processes.server_binary import find_server_binary
from protocol.connection.redis_client import connect_async, redis_errors
from protocol.errors import QueueUnavailable

LONGEST_SOCKET_PATH = 103  # bytes; sockaddr_un.sun_path holds 104 on macOS, 108 on Linux
POLL_S = 0.02

CONFIGURATION = """\
# Written at each start; changes are lost.
port 0
unixsocket {socket}
unixsocketperm 600
requirepass {password}
dir {folder}
logfile {log}
daemonize no
save ""
appendonly yes
appendfsync always
maxmemory-policy noeviction
"""


class EmbeddedRedisError(RuntimeError):
    """The folder cannot be used, or another server uses it."""


@dataclass(frozen=True)
class EmbeddedRedis:
    """A folder prepared for one server. `lock` is the open file descriptor of its lock."""

    folder: Path
    socket: Path
    password: str
    lock: int

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def url(self) -> str:
        """Address with password, in the form of `REDIS_URL`."""
        return f"unix://:{self.password}@{quote(str(self.socket))}?db=0"

    def program(self, show: Callable[[str, str], None]) -> Program:
        """Return the server as a program of the local stack.

        Raises:
            NoServerBinary: this machine has no server binary.
        """
        return Program(
            name="redis",
            command=[
                str(find_server_binary(record=self.folder / "server")),
                str(self.folder / "redis.conf"),
            ],
            ready=self._wait_until_ready,
            show=show,
            hint=f"its log is {self.log}",
            pass_fds=[self.lock],
        )

    async def _wait_until_ready(self) -> None:
        """Wait until the server has read its append-only file and answers."""
        async with connect_async(self.url) as client:
            while True:
                try:
                    with redis_errors():
                        await client.ping()
                    return
                except QueueUnavailable:
                    await asyncio.sleep(POLL_S)


@contextmanager
def embedded_redis(folder: Path) -> Iterator[EmbeddedRedis]:
    """Prepare `folder` for a server: private, locked, with a new password and configuration.

    Raises:
        EmbeddedRedisError: another server uses the folder, or no file can be created in it.
    """
    folder = folder.resolve()
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            lock = stack.enter_context(_locked(folder / "lock"))
            socket = stack.enter_context(_private_socket(folder))
            server = EmbeddedRedis(folder, socket, secrets.token_urlsafe(24), lock)
            _write_private(folder / "redis.conf", _configuration(server))
        except OSError as error:
            raise EmbeddedRedisError(f"{folder} cannot be used: {error}") from error
        yield server


def _configuration(server: EmbeddedRedis) -> str:
    return CONFIGURATION.format(
        socket=_quoted(server.socket),
        password=server.password,
        folder=_quoted(server.folder),
        log=_quoted(server.log),
    )


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold the lock; fail at once if it is taken. It is free when every process that has the file
    open has ended."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, path.parent)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise EmbeddedRedisError(
            f"another Darkroom is using {folder}: stop it, or choose another --home"
        ) from error


@contextmanager
def _private_socket(folder: Path) -> Iterator[Path]:
    """Yield a private path for the socket: in `folder`, unless that path is too long."""
    socket = folder / "redis.sock"
    if len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH:
        yield socket
        return
    with TemporaryDirectory(prefix="darkroom-") as shorter:
        yield Path(shorter) / "redis.sock"


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)


def _quoted(path: Path) -> str:
    """Quote a path for the server's configuration file."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
