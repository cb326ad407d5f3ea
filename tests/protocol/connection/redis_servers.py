"""Redis servers for tests: with TLS, with Sentinel, as a Cluster; all of them real processes."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis, RedisError

from darkroom.processes.parent_death import bound_to_parent
from darkroom.processes.server_binary import find_server_binary
from tests.support.certificates import certificates
from tests.support.redis_server import free_port

TIMEOUT_S = 30.0
SLOTS = 16384


class Server:
    """One server process with its own folder; it is killed on exit from the context."""

    def __init__(
        self, folder: Path, port: int, options: Mapping[str, str], *arguments: str
    ) -> None:
        self.folder = folder
        self.port = port
        self._command = [str(find_server_binary()), *arguments]
        for name, value in {"bind": "127.0.0.1", "dir": str(folder), **options}.items():
            self._command += [f"--{name}", *value.split()]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        self.folder.mkdir(parents=True, exist_ok=True)
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(bound_to_parent(self._command), stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def client(self, **options: Any) -> Redis:
        return Redis(port=self.port, socket_timeout=2, decode_responses=True, **options)


def until(condition: object, what: str) -> None:
    """Wait for `condition()`; Redis may be unavailable meanwhile."""
    assert callable(condition)
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            if condition():
                return
        except RedisError:
            pass
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.05)


@contextmanager
def tls(folder: Path) -> Iterator[str]:
    """Run a server with TLS only; yield its URL."""
    certificate, secret = certificates(folder)
    port = free_port()
    options = {
        "port": "0",
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(secret),
        "tls-ca-cert-file": str(certificate),
        "tls-auth-clients": "no",
    }
    with Server(folder / "tls", port, options) as server:
        client = server.client(ssl=True, ssl_ca_certs=str(certificate))
        until(client.ping, "the server with TLS answers")
        client.close()
        yield f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}"


@contextmanager
def replicated(folder: Path) -> Iterator[tuple[str, Server, Server]]:
    """Run a master with Sentinel and a replica; yield the URL, the master and the replica."""
    with ExitStack() as stack:
        ports = [free_port() for _ in range(3)]
        master, replica = (
            stack.enter_context(
                Server(folder / name, port, {"port": str(port), "appendonly": "yes", **more})
            )
            for name, port, more in (
                ("master", ports[0], {}),
                ("replica", ports[1], {"replicaof": f"127.0.0.1 {ports[0]}"}),
            )
        )
        until(
            lambda: replica.client().info("replication")["master_link_status"] == "up",
            "the replica is synchronised",
        )
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {ports[2]}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor images 127.0.0.1 {ports[0]} 1\n"
            "sentinel down-after-milliseconds images 500\n"
            "sentinel failover-timeout images 3000\n"
        )
        sentinel = Server(folder / "sentinel", ports[2], {}, str(config), "--sentinel")
        stack.enter_context(sentinel)
        until(
            lambda: len(sentinel.client().sentinel_slaves("images")) == 1,
            "Sentinel has found the replica",
        )
        yield f"redis+sentinel://127.0.0.1:{ports[2]}/images/0", master, replica


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[Server]]]:
    """Run a Cluster of three masters, each with a replica; yield the URL and the servers."""
    with ExitStack() as stack:
        servers = []
        for number in range(6):
            port, bus = free_port(), free_port()
            options = {
                "port": str(port),
                "cluster-port": str(bus),
                "cluster-enabled": "yes",
                "cluster-node-timeout": "1000",
                "cluster-replica-validity-factor": "0",
            }
            servers.append(stack.enter_context(Server(folder / str(number), port, options)))
        for server in servers:
            until(server.client().ping, "a node answers")
        _join(servers)
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        yield f"redis+cluster://{hosts}", servers


def _join(servers: Sequence[Server]) -> None:
    nodes = [server.client() for server in servers]
    masters, replicas = nodes[:3], nodes[3:]
    for number, node in enumerate(masters):
        first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1
        node.execute_command("CLUSTER ADDSLOTSRANGE", first, last)  # type: ignore[no-untyped-call]
    for server in servers[1:]:
        bus = server.client().config_get("cluster-port")["cluster-port"]
        nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", server.port, bus)  # type: ignore[no-untyped-call]
    for node in nodes:
        until(
            lambda node=node: len(node.cluster("nodes")) == len(nodes),
            "the nodes have found each other",
        )
    for master, replica in zip(masters, replicas, strict=True):
        name = master.execute_command("CLUSTER MYID")  # type: ignore[no-untyped-call]
        until(lambda r=replica, n=name: r.execute_command("CLUSTER REPLICATE", n), "it replicates")
    for node in nodes:
        until(lambda node=node: node.cluster("info")["cluster_state"] == "ok", "the cluster is up")
    for node in replicas:
        until(
            lambda node=node: node.info("replication")["master_link_status"] == "up",
            "the replicas are synchronised",
        )
    for node in nodes:
        node.close()
