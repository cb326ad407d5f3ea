"""`python -m tests.chaos`: the long form. Prints a table; status 1 if a promise was broken."""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.run import Plan, play
from tests.chaos.verdict import Verdict, as_table, p99, spread

SEED = 1789


def main() -> int:
    plan = _plan()
    print(f"{plan}\nplay it again: python -m tests.chaos --seed {plan.seed}", flush=True)
    started = time.monotonic()
    with TemporaryDirectory(prefix="darkroom-chaos-") as folder:
        verdict = play(plan, Path(folder))
    print(f"\n{as_table(verdict.rows)}\n\n{summary(verdict)}")
    print(f"{time.monotonic() - started:.0f} s in all")
    return 0 if verdict.kept else 1


def summary(verdict: Verdict) -> str:
    """The verdict in a few lines; ids of jobs only where something is wrong."""
    lines = [
        f"jobs {verdict.jobs}: {verdict.finished} finished, {verdict.cancelled} cancelled; "
        f"{verdict.accepted} of them were told to be accepted",
        f"faults {sum(row.times for row in verdict.rows)}",
        f"begun again after the death of a worker: {spread(verdict.begun_again)}, "
        f"p99 {p99(verdict.begun_again)}",
    ]
    for name in ("lost", "doubled", "failed", "wrong", "orphans", "fallen"):
        found = sorted(getattr(verdict, name))
        lines.append(f"{name} {len(found)} {' '.join(found[:5])}".rstrip())
    lines.append(f"surplus {verdict.surplus}")
    return "\n".join(lines)


def _plan() -> Plan:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--recipes", type=int, default=48)
    parser.add_argument("--most-steps", type=int, default=40)
    parser.add_argument("--pause-s", type=float, default=3.0, help="between faults, on average")
    parser.add_argument("--faults-for-s", type=float, default=600.0)
    parser.add_argument("--appendfsync", choices=("always", "everysec"), default="always")
    parser.add_argument("--until-expired", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--only", default="", help="faults whose name contains this")
    return Plan(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
