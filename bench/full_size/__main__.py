"""Compare published networks at full size, with the same random weights, with their references.

    python -m bench full_size FOLDER [NAME …]

FOLDER holds one folder for each checkpoint with its published configurations (`unet/config.json`
and so on in diffusers' layout, a .yaml in CompVis' own; no weights). An independent reference
(diffusers, transformers or CompVis' code) builds each network with random weights and writes it in
the published format. Darkroom loads the file, and both compute the same inputs in single precision.
The result is the relative difference, ‖ours − theirs‖ / ‖theirs‖.

CompVis' checkpoints are complete .ckpt files, added as `darkroom models add` does. They need
CompVis' code (`pip install --no-deps stable-diffusion-sdkit`). The largest take 13 GB of memory and
as much of the disk; all of them take 20 minutes on two cores. Earlier results of other checkpoints
are kept. The exit status is 1 if a difference is above 1e-4.
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
    """Yield the result of each network of each checkpoint."""
    for name in names:
        started = time.monotonic()
        for part, parameters, error in _compare(configurations, name, scratch):
            ended = time.monotonic()
            at = datetime.now(UTC).isoformat(timespec="seconds")
            yield Finding(name, part, parameters, error, ended - started, at)
            started = ended


def _compare(configurations: Path, name: str, scratch: Path) -> Iterator[tuple[str, int, float]]:
    if name not in originals.CHECKPOINTS:
        return folders.compare_folder(configurations / name, scratch)
    path = scratch / f"{name}.ckpt"
    computed = originals.write_checkpoint(originals.published(configurations, name), path)
    return originals.compare_checkpoint(computed, path, scratch)


def all_names(configurations: Path) -> list[str]:
    """Return the names of all checkpoints that have configurations."""
    available = sorted(path.name for path in configurations.iterdir() if path.is_dir())
    return available + [
        name
        for name, checkpoint in originals.CHECKPOINTS.items()
        if (configurations / checkpoint.config).is_file()
    ]


def earlier(file: Path, without: Iterable[str]) -> list[Finding]:
    """Return the stored results of other checkpoints."""
    if not file.is_file():
        return []
    found = [Finding(**network) for network in json.loads(file.read_text("utf-8"))["networks"]]
    return [finding for finding in found if finding.checkpoint not in without]


def options() -> argparse.ArgumentParser:
    parser = arguments(NAME, __doc__)
    parser.add_argument("folder", type=Path, help="folder of the published configurations")
    parser.add_argument(
        "names", nargs="*", help=f"folders in it, or any of {', '.join(originals.CHECKPOINTS)}"
    )
    return parser


def main() -> int:
    given = options().parse_args()
    names = given.names or all_names(given.folder)
    found = []
    WRITTEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WRITTEN) as scratch:
        for finding in findings(given.folder, names, Path(scratch)):
            print(f"{finding.checkpoint}/{finding.part}: {finding.error:.1e}", file=sys.stderr)
            found.append(finding)
    columns = ("checkpoint", "part", "parameters", "difference", "s")
    rows = [(f.checkpoint, f.part, f.parameters, f.error, f.seconds) for f in found]
    title = f"Compared with diffusers, transformers and CompVis' code, float32, ≤ {TOLERANCE:g}"
    kept = earlier(RESULTS / f"{NAME}-{given.label or 'cpu'}.json", names) + found
    publish(NAME, given, "cpu", [table(title, columns, rows)], {
        "tolerance": TOLERANCE,
        "networks": [asdict(f) for f in sorted(kept, key=lambda f: f.checkpoint)],
    })  # fmt: skip
    return 0 if all(finding.error <= TOLERANCE for finding in found) else 1


if __name__ == "__main__":
    sys.exit(main())
