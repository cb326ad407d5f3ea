"""Jobs with TLS, Sentinel and Cluster, and their failovers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from darkroom.processes.server_binary import find_server_binary
from protocol.connection.topology import Topology
from protocol.settings import Settings
from tests.protocol.connection.redis_servers import Server, cluster, replicated, tls, until

pytestmark = pytest.mark.early

REPLICATED = 1  # replicas that must have a job before its master is killed

needs_redis = pytest.mark.skipif(
    find_server_binary().name != "redis-server",
    reason="this server supports neither TLS nor cluster ports; install redis-server",
)


def run_jobs(url: str, kill: Callable[[], None] | None = None, **environment: str) -> list[str]:
    """Run `job_round_trip` and return its lines; call `kill` at its line "kill"."""
    command = [
        sys.executable,
        "-m",
        "tests.protocol.connection.job_round_trip",
        url,
        *(["failover"] if kill else []),
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if lines[-1] == "kill":
                assert kill
                kill()
                process.stdin.write("\n")
                process.stdin.flush()
        errors = process.stderr.read()
        assert process.wait() == 0, errors
    return lines


@needs_redis
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls(tmp_path: Path) -> None:
    with tls(tmp_path) as url:
        assert run_jobs(url) == ["cancelled", "generated"]


def test_sentinel_with_a_failover(tmp_path: Path) -> None:
    with replicated(tmp_path) as (url, master, replica):

        def kill() -> None:
            with master.client() as client:
                until(lambda: client.wait(REPLICATED, 1000) == REPLICATED, "the job is replicated")
            master.kill()

        assert run_jobs(url, kill) == ["cancelled", "kill", "generated"]
        with replica.client() as client:
            assert client.role()[0] == "master"


@needs_redis
def test_cluster_with_a_failover(tmp_path: Path) -> None:
    with cluster(tmp_path) as (url, servers):
        owner: list[Server] = []

        def kill() -> None:
            [found] = [server for server in servers[:3] if server.client().dbsize() > 0]
            owner.append(found)
            with found.client() as client:
                until(lambda: client.wait(REPLICATED, 1000) == REPLICATED, "the job is replicated")
            found.kill()

        assert run_jobs(url, kill, RQ_KEY_PREFIX="{darkroom}") == ["cancelled", "kill", "generated"]
        assert len(owner) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+sentinel://host:1", "name of Sentinel's service"),
        ("redis+sentinel://host:1/images/x", "name of Sentinel's service"),
        ("redis+sentinel:///images", "names its hosts"),
        ("redis+cluster://host:1/3", "without a database"),
        ("redis+cluster://host:1", "braces"),
    ],
)
def test_invalid_urls_are_refused(url: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(redis_url=url)


def test_all_parts_of_a_url_are_parsed() -> None:
    topology = Topology.read(
        "rediss+sentinel://me:p%40ss@a,[::1]:7/images/2?sentinel_password=s&ssl_ca_certs=/ca"
    )
    assert topology.nodes == (("a", 26379), ("::1", 7))
    assert (topology.service, topology.db, topology.sentinel_password) == ("images", 2, "s")
    plain = topology.url(("::1", 7), topology.login, topology.db)
    assert plain == "rediss://me:p%40ss@[::1]:7/2?ssl_ca_certs=%2Fca"
