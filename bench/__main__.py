"""Run benchmarks by name: python -m bench [NAME…] [OPTION…]

Each benchmark has its own options, prints a table, and prints its result as a JSON line. Options
are passed on to the benchmarks (`python -m bench overhead --help` lists those of one benchmark).
Without names, the benchmarks of the bundled model on this machine are run.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import takewhile

from darkroom.processes.process import this_python

MODULES = {
    "overhead": "bench.serving.overhead",
    "offline": "bench.engine.offline",
    "peers": "bench.engine.peers",
    "online": "bench.serving.online",
    "components": "bench.engine.components",
    "soak": "bench.serving.soak",
    "same_bytes": "bench.serving.same_bytes",
    "simulate": "bench.simulation.simulate",
    "step_times": "bench.engine.step_times",
    "redis_traffic": "bench.serving.redis_traffic",
    "extra_networks": "bench.engine.extra_networks",
    "correctness": "bench.engine.correctness",
    "full_size": "bench.full_size",
    "tiled_memory": "bench.engine.tiled_memory",
    "startup": "bench.serving.startup",
}
# About 0.5, 1, 3, 5 and 1 minutes on two cores.
DEFAULT = ("overhead", "offline", "peers", "online", "components")


def main() -> int:
    """Run the benchmarks; return the number of failures."""
    names = list(takewhile(lambda word: not word.startswith("-"), sys.argv[1:]))
    options = sys.argv[1 + len(names) :]
    unknown = [name for name in names if name not in MODULES]
    if unknown or (not names and {"-h", "--help"} & set(options)):
        print(f"{__doc__}\nNames: {', '.join(MODULES)}", file=sys.stderr)
        return len(unknown)
    commands = [[*this_python(MODULES[name]), *options] for name in names or DEFAULT]
    return sum(subprocess.run(command, check=False).returncode != 0 for command in commands)


if __name__ == "__main__":
    raise SystemExit(main())
