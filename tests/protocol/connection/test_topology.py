"""Jobs live through TLS, Sentinel and Cluster, and through the failovers of the latter two."""

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
from tests.protocol.connection.servers import Server, cluster, replicated, tls, until

REPLICATED = 1  # replicas that must have a job before its master may die

needs_redis = pytest.mark.skipif(
    find_server_binary().name != "redis-server",
    reason="the server at hand knows neither TLS nor a cluster's ports; install redis-server",
)


def live(url: str, kill: Callable[[], None] | None = None, **environment: str) -> list[str]:
    """Run `life`; what it said. `kill` is called when it asks for that."""
    command = [
        sys.executable,
        "-m",
        "tests.protocol.connection.life",
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
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if said[-1] == "kill":
                assert kill
                kill()
                process.stdin.write("\n")
                process.stdin.flush()
        errors = process.stderr.read()
        assert process.wait() == 0, errors
    return said


@needs_redis
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_by_tls(tmp_path: Path) -> None:
    with tls(tmp_path) as url:
        assert live(url) == ["heard", "drawn"]


def test_behind_sentinel_and_through_a_failover(tmp_path: Path) -> None:
    with replicated(tmp_path) as (url, master, replica):

        def kill() -> None:
            with master.client() as client:
                until(lambda: client.wait(REPLICATED, 1000) == REPLICATED, "the job is replicated")
            master.kill()

        assert live(url, kill) == ["heard", "kill", "drawn"]
        with replica.client() as client:
            assert client.role()[0] == "master"


@needs_redis
def test_on_a_cluster_and_through_a_failover(tmp_path: Path) -> None:
    with cluster(tmp_path) as (url, servers):
        owner: list[Server] = []

        def kill() -> None:
            [found] = [server for server in servers[:3] if server.client().dbsize() > 0]
            owner.append(found)
            with found.client() as client:
                until(lambda: client.wait(REPLICATED, 1000) == REPLICATED, "the job is replicated")
            found.kill()

        assert live(url, kill, RQ_KEY_PREFIX="{darkroom}") == ["heard", "kill", "drawn"]
        assert len(owner) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+sentinel://host:1", "name of Sentinel's service"),
        ("redis+sentinel://host:1/pictures/x", "name of Sentinel's service"),
        ("redis+sentinel:///pictures", "names its hosts"),
        ("redis+cluster://host:1/3", "has no database"),
        ("redis+cluster://host:1", "braces"),
    ],
)
def test_addresses_that_cannot_be_meant_are_refused(url: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings(redis_url=url)


def test_an_address_is_read_whole() -> None:
    topology = Topology.read(
        "rediss+sentinel://me:p%40ss@a,[::1]:7/pictures/2?sentinel_password=s&ssl_ca_certs=/ca"
    )
    assert topology.nodes == (("a", 26379), ("::1", 7))
    assert (topology.service, topology.db, topology.sentinel_password) == ("pictures", 2, "s")
    plain = topology.url(("::1", 7), topology.login, topology.db)
    assert plain == "rediss://me:p%40ss@[::1]:7/2?ssl_ca_certs=%2Fca"
