"""Start of a local stack: seconds and processor time until `darkroom up` is ready.

    python -m bench startup [--tree FOLDER …] [--runs 5]

The stack has the bundled model and embedded Redis. A tree is another checkout with its own `.venv`;
all are started in turn, so that a change of the machine's speed meets all. The first start of each
is left out, because it may measure executors and compile files.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.common.report import arguments, publish, table
from darkroom.processes.process import this_python

HERE = Path(__file__).parents[2]
READY = "Darkroom is ready"


@dataclass(frozen=True)
class Start:
    """One start: seconds until it was ready, and processor time of all programs to their end."""

    tree: str
    ready_s: float
    cpu_s: float


def start(tree: Path) -> Start:
    """Start the stack of a checkout and stop it when it is ready.

    Raises RuntimeError with its output if it ended before.
    """
    ours = tree == HERE
    python = this_python() if ours else [str(tree / ".venv/bin/python"), "-m"]
    before, began = _children_s(), time.perf_counter()
    with (
        TemporaryDirectory(prefix="darkroom-bench-") as home,
        subprocess.Popen(
            [*python, "darkroom", "up", "--home", home],
            cwd=tree,
            env=os.environ | {"PORT": "0", "HOST": "127.0.0.1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        _wait_until_ready(process)
        ready_s = time.perf_counter() - began
        process.send_signal(signal.SIGINT)
        process.communicate()
    return Start("this tree" if ours else tree.name, ready_s, _children_s() - before)


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if READY in line:
            return
    raise RuntimeError("".join(lines))


def _children_s() -> float:
    """Return the processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def starts(trees: list[Path], runs: int) -> Iterator[Start]:
    for run in range(runs + 1):
        for tree in trees:
            found = start(tree)
            if run:
                yield found


def main() -> None:
    parser = arguments("startup", __doc__)
    parser.add_argument("--tree", type=Path, action="append", default=[], help="another checkout")
    parser.add_argument("--runs", type=int, default=5, help="starts of each tree")
    given = parser.parse_args()
    runs = 1 if given.smoke else given.runs
    found = list(starts([HERE, *given.tree], runs))
    rows = [
        (
            tree,
            median(each.ready_s for each in found if each.tree == tree),
            median(each.cpu_s for each in found if each.tree == tree),
        )
        for tree in dict.fromkeys(each.tree for each in found)
    ]
    publish(
        "startup",
        given,
        "cpu",
        [table("Median of the starts", ("tree", "ready s", "processor s"), rows)],
        {"starts": [asdict(each) for each in found]},
    )


if __name__ == "__main__":
    main()
