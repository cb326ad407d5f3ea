"""Run Swift's servers as forks of one process, which imports Swift once, until SIGTERM.

    python -m tests.protocol.storage.swift_processes FOLDER account:PORT … proxy:PORT

FOLDER has a configuration for each. The rings, the maps of the storage, are written first: one
copy, on one disk of this machine. It is a program of its own because Swift's modules modify the
process that imports them.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import swift.account.server
import swift.container.server
import swift.obj.server
import swift.proxy.server
from swift.common.ring import RingBuilder

from darkroom.processes.parent_death import die_with_parent

PARTITIONS_AS_POWER_OF_2 = 4
STOPPING = (signal.SIGTERM, signal.SIGCHLD)  # the second: a server has ended, and so all end
SERVERS: dict[str, Callable[[], None]] = {
    "proxy": swift.proxy.server.main,
    "account": swift.account.server.main,
    "container": swift.container.server.main,
    "object": swift.obj.server.main,
}


def write_ring(folder: Path, name: str, port: int) -> None:
    """Write the ring of the only server of the kind `name`, at `port`."""
    builder = RingBuilder(PARTITIONS_AS_POWER_OF_2, replicas=1, min_part_hours=0)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port}
    builder.add_dev({"id": 0, "device": "disk", "weight": 1.0, **place})
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{name}.ring.gz"))


def fork_server(folder: Path, name: str) -> int:
    """Start a server and return the id of its process."""
    pid = os.fork()
    if pid:
        return pid
    die_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    sys.argv[:] = [f"swift-{name}-server", str(folder / f"{name}.conf")]
    SERVERS[name]()
    os._exit(1)  # not reached while the server runs


def main(folder: Path, ports: dict[str, int]) -> None:
    for name, port in ports.items():
        if name != "proxy" and not (folder / f"{name}.ring.gz").exists():
            write_ring(folder, name, port)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    pids = [fork_server(folder, name) for name in ports]
    signal.sigwait(STOPPING)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        {name: int(port) for name, _, port in (pair.partition(":") for pair in sys.argv[2:])},
    )
