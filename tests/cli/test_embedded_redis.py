"""Tests of the embedded server: private, durable, one a folder, and bound to its parent."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from darkroom.processes.embedded_redis import EmbeddedRedis, EmbeddedRedisError, embedded_redis
from darkroom.processes.process import running
from tests.cli.processes import is_alive, wait_until

ONE_TRY = Retry(NoBackoff(), 0)

SERVER_PROGRAM = """
import asyncio, sys
from pathlib import Path
from darkroom.processes.process import running
from darkroom.processes.embedded_redis import embedded_redis
from protocol.connection.redis_client import connect

async def main():
    with embedded_redis(Path(sys.argv[1])) as server:
        async with running(server.program(print)) as process:
            await process.is_ready.wait()
            with connect(server.url) as client:
                print(client.info("server")["process_id"], flush=True)
            await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Create a folder with a path short enough for a unix socket."""
    with TemporaryDirectory(prefix="dark room ") as parent:
        yield Path(parent) / "redis"


def client_of(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


async def test_clients_need_the_password(folder: Path) -> None:
    with embedded_redis(folder) as server:
        async with running(server.program(print)) as process:
            await process.is_ready.wait()
            with client_of(server) as client:
                assert client.ping()
                assert client.config_get("port") == {"port": "0"}
            with (
                redis.Redis(unix_socket_path=str(server.socket), retry=ONE_TRY) as unauthenticated,
                pytest.raises(AuthenticationError),
            ):
                unauthenticated.ping()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert stat.S_IMODE((folder / "redis.conf").stat().st_mode) == 0o600
            assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600


async def test_acknowledged_writes_survive_a_crash_and_a_restart(folder: Path) -> None:
    with embedded_redis(folder) as server:
        async with running(server.program(print)) as process:
            await process.is_ready.wait()
            with client_of(server) as client:
                client.set("accepted", "yes")
                os.kill(client.info("server")["process_id"], signal.SIGKILL)
    with embedded_redis(folder) as server:
        async with running(server.program(print)) as process:
            await process.is_ready.wait()
            with client_of(server) as client:
                assert client.get("accepted") == "yes"


def test_second_server_in_a_folder_is_refused(folder: Path) -> None:
    with (
        embedded_redis(folder),
        pytest.raises(EmbeddedRedisError, match="another Darkroom"),
        embedded_redis(folder),
    ):
        pass


async def test_folder_path_may_be_too_long_for_a_socket(tmp_path: Path) -> None:
    with embedded_redis(tmp_path / ("x" * 100)) as server:
        assert not server.socket.is_relative_to(tmp_path)
        async with running(server.program(print)) as process:
            await process.is_ready.wait()
            with client_of(server) as client:
                assert client.ping()
    assert not server.socket.parent.exists()


def test_server_dies_with_its_killed_parent_and_releases_the_folder(folder: Path) -> None:
    command = [sys.executable, "-c", SERVER_PROGRAM, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        server = int(parent.stdout.readline())
        assert is_alive(server)
        parent.kill()
    wait_until(lambda: not is_alive(server), "the server is gone")
    with embedded_redis(folder):
        pass
