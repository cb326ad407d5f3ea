"""A real Redis-compatible server for tests, on a unix socket and a TCP port of the loopback.

with RedisServer() as server:
    redis.Redis.from_url(server.url)
    server.kill()       # SIGKILL, as a crash would
    server.start()      # the same port, socket and data: the append-only file is read back
"""

import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import redis

from darkroom.processes.parent_death import bound_to_parent
from darkroom.processes.server_binary import find_server_binary

START_TIMEOUT_S = 20.0


class RedisServer:
    """One server process with its own folder; AOF is on, so a restart keeps the data.

    `options` are further server settings: `RedisServer(appendfsync="always")`.
    """

    def __init__(self, **options: str) -> None:
        self.options = options
        # Not pytest's tmp_path: the path of a unix socket may have at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="darkroom-redis-"))
        self.port = free_port()
        self.socket = self.folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """TCP address, for tests that use a proxy or need a port."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """Unix socket address."""
        return f"unix://{self.socket}?db=0"

    def start(self) -> None:
        """Start the process and wait until it answers."""
        log = self.folder / "server.log"
        arguments = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--unixsocket": str(self.socket),
            "--dir": str(self.folder),
            "--appendonly": "yes",
            "--save": "",
            "--daemonize": "no",
            "--logfile": str(log),
            **{f"--{name}": value for name, value in self.options.items()},
        }
        command = [str(find_server_binary())]
        for flag, value in arguments.items():
            command += [flag, value]
        # Bound to this process, so that a killed test run leaves no server. The kernel watches the
        # calling thread, so this needs a thread that lives as long as the process.
        in_main_thread = threading.current_thread() is threading.main_thread()
        self.process = subprocess.Popen(bound_to_parent(command) if in_main_thread else command)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the Redis server did not start:\n{log.read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the process in order (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Suspend the process (SIGSTOP): connections stay open, but it does not answer."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the process after `pause`."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop the process in order and start it again with the same address and data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        with redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        self.process.wait()
        self.process = None


def free_ports_in_a_row(count: int) -> int:
    """Return the first of several TCP ports of the loopback that are free at the moment.

    They are below those that the system gives to connections, and to programs that ask for any:
    one of those could be taken before the caller listens. Hypothesis sets the seed of `random`.
    """
    while True:
        first = random.SystemRandom().randrange(20_000, 30_000)
        with ExitStack() as listeners, suppress(OSError):
            for port in range(first, first + count):
                listeners.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def free_port() -> int:
    """Return a TCP port of the loopback that is free at the moment."""
    return free_ports_in_a_row(1)
