"""Published networks at their full size, with the same random weights, beside their reference.

    python -m bench full_size FOLDER [NAME …]

FOLDER holds one folder for each checkpoint with the configurations it was published with (for
diffusers' layout `unet/config.json` and so on, for CompVis' own its .yaml; no weights). Each
network is built with random weights by an independent reference: diffusers, transformers or
CompVis' code. They are written in the published format, loaded by us, and compute the same inputs
as the reference in single precision. Told is the relative difference, ‖ours − theirs‖ / ‖theirs‖.

CompVis' checkpoints are whole .ckpt files, added as `darkroom models add` does. They need CompVis'
code (`pip install --no-deps stable-diffusion-sdkit`). The largest take 13 GB of memory and as much
of the disk; all of them 20 minutes of two cores. What was found before of other checkpoints is
kept. The exit status is 1 if a difference is above 1e-4.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench.common.report import RESULTS, arguments, publish, table
from bench.common.workloads import WRITTEN
from bench.full_size import folders, originals
from bench.full_size.finding import TOLERANCE, Finding

NAME = "full_size"


def findings(configurations: Path, names: Iterable[str], scratch: Path) -> Iterator[Finding]:
    """One after the other: of each checkpoint, what there is of it."""
    for name in names:
        began = time.monotonic()
        for part, parameters, error in _compared(configurations, name, scratch):
            ended = time.monotonic()
            at = datetime.now(UTC).isoformat(timespec="seconds")
            yield Finding(name, part, parameters, error, ended - began, at)
            began = ended


def _compared(configurations: Path, name: str, scratch: Path) -> Iterator[tuple[str, int, float]]:
    if name not in originals.CHECKPOINTS:
        return folders.compared(configurations / name, scratch)
    path = scratch / f"{name}.ckpt"
    computed = originals.written(originals.original(configurations, name), path)
    return originals.compared(computed, path, scratch)


def every_name(configurations: Path) -> list[str]:
    """All checkpoints whose configurations are there."""
    there = sorted(path.name for path in configurations.iterdir() if path.is_dir())
    return there + [
        name
        for name, checkpoint in originals.CHECKPOINTS.items()
        if (configurations / checkpoint.config).is_file()
    ]


def earlier(file: Path, without: Iterable[str]) -> list[Finding]:
    """What was found before of other checkpoints."""
    if not file.is_file():
        return []
    found = [Finding(**network) for network in json.loads(file.read_text("utf-8"))["networks"]]
    return [finding for finding in found if finding.checkpoint not in without]


def options() -> argparse.ArgumentParser:
    parser = arguments(NAME, __doc__)
    parser.add_argument("folder", type=Path, help="the published configurations")
    parser.add_argument(
        "names", nargs="*", help=f"folders in it, or of {', '.join(originals.CHECKPOINTS)}"
    )
    return parser


def main() -> int:
    given = options().parse_args()
    names = given.names or every_name(given.folder)
    found = []
    WRITTEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WRITTEN) as scratch:
        for finding in findings(given.folder, names, Path(scratch)):
            print(f"{finding.checkpoint}/{finding.part}: {finding.error:.1e}", file=sys.stderr)
            found.append(finding)
    columns = ("checkpoint", "part", "parameters", "difference", "s")
    rows = [(f.checkpoint, f.part, f.parameters, f.error, f.seconds) for f in found]
    title = f"Beside diffusers, transformers and CompVis' code, float32, at most {TOLERANCE:g}"
    kept = earlier(RESULTS / f"{NAME}-{given.label or 'cpu'}.json", names) + found
    publish(NAME, given, "cpu", [table(title, columns, rows)], {
        "tolerance": TOLERANCE,
        "networks": [asdict(f) for f in sorted(kept, key=lambda f: f.checkpoint)],
    })  # fmt: skip
    return 0 if all(finding.error <= TOLERANCE for finding in found) else 1


if __name__ == "__main__":
    sys.exit(main())
