"""`python -m tests.chaos`: the long chaos test. Prints a table; status 1 if a guarantee failed."""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.report import Report, as_table, p99, spread
from tests.chaos.run import Plan, run

SEED = 1789


def main() -> int:
    plan = _plan()
    print(f"{plan}\nto repeat: python -m tests.chaos --seed {plan.seed}", flush=True)
    started = time.monotonic()
    with TemporaryDirectory(prefix="darkroom-chaos-") as folder:
        report = run(plan, Path(folder))
    print(f"\n{as_table(report.rows)}\n\n{summary(report)}")
    print(f"{time.monotonic() - started:.0f} s in total")
    return 0 if report.passed else 1


def summary(report: Report) -> str:
    """Return the report in a few lines, with the ids of the jobs that have a problem."""
    lines = [
        f"jobs {report.jobs}: {report.finished} finished, {report.cancelled} cancelled, "
        f"{report.deleted} deleted before they ended, "
        f"{len(report.lost_with_redis)} lost with the data of Redis; "
        f"{report.accepted} of them were accepted in a response",
        f"faults {sum(row.times for row in report.rows)}",
        f"started again after the death of a worker: {spread(report.started_again)}, "
        f"p99 {p99(report.started_again)}",
        f"first new job finished after Redis was emptied: {spread(report.recoveries)}",
    ]
    for name in (
        *("lost", "done_twice", "failed", "wrong", "undead", "unlisted"),
        *("torn", "untold", "misinformed"),
        *("orphans", "crashed", "mistimed"),
    ):
        found = sorted(getattr(report, name))
        lines.append(f"{name.replace('_', ' ')} {len(found)} {' '.join(found[:5])}".rstrip())
    lines += [
        f"surplus {report.surplus}",
        f"unanswered {report.unanswered}",
        f"not recovered {len(report.unrecovered)}",
    ]
    return "\n".join(lines)


def _plan() -> Plan:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--requests", type=int, default=48, help="different requests")
    parser.add_argument("--most-steps", type=int, default=40)
    parser.add_argument("--pause-s", type=float, default=3.0, help="mean time between faults")
    parser.add_argument("--faults-for-s", type=float, default=600.0)
    parser.add_argument("--appendfsync", choices=("always", "everysec"), default="always")
    parser.add_argument("--until-expired", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--only", default="", help="only faults whose name contains this")
    return Plan(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
