"""Write Swift's rings, the maps of its storage: one copy, on one disk of this machine.

    python swift_rings.py FOLDER account:PORT container:PORT object:PORT

It is a program of its own because Swift's modules modify the process that imports them.
"""

import sys
from pathlib import Path

from swift.common.ring import RingBuilder

PARTITIONS_AS_POWER_OF_2 = 4


def write(folder: Path, name: str, port: int) -> None:
    """Write the ring of the only server of the kind `name`, at `port`."""
    builder = RingBuilder(PARTITIONS_AS_POWER_OF_2, replicas=1, min_part_hours=0)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port}
    builder.add_dev({"id": 0, "device": "disk", "weight": 1.0, **place})
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{name}.ring.gz"))


if __name__ == "__main__":
    for server in sys.argv[2:]:
        name, _, port = server.partition(":")
        write(Path(sys.argv[1]), name, int(port))
