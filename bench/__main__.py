"""The benchmarks, one after another: python -m bench [NAME…] [--smoke]

Each is a program of its own (`python -m bench.NAME`), with its own options, table and JSON line.
Without names: those that say how fast the bundled model is served on this machine.
"""

from __future__ import annotations

import argparse
import subprocess

from darkroom.child import this_python

# How long each takes on two cores, roughly, in minutes: 0.5, 1, 3, 5, 1.
USUAL = ("overhead", "offline", "peers", "online", "components")
ALL = (*USUAL, "soak", "same_bytes", "simulate", "step_times", "redis_traffic", "additions")


def main() -> int:
    """The exit status: how many of them failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}")
    parser.add_argument("--smoke", action="store_true", help="seconds each: do they run?")
    given = parser.parse_args()
    failed = 0
    for name in given.names or USUAL:
        command = [*this_python(f"bench.{name}"), *(["--smoke"] if given.smoke else [])]
        failed += subprocess.run(command, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
