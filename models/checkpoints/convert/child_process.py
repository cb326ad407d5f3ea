"""The child process that converts a checkpoint, with limits on its resources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.checkpoints import errors
from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.convert.limits import ChildLimits
from models.checkpoints.errors import CheckpointError, Malformed

_ROOT = Path(__file__).resolve().parents[3]
_MAX_LINE = 4 << 20

# Called with the share done, 0 to 1, and the name of the component being written.
InstallProgress = Callable[[float, str], None]


def convert(
    conversion: Conversion,
    limits: ChildLimits | None = None,
    report: InstallProgress = lambda share, what: None,
) -> dict[str, Any]:
    """Run `conversion` in a child process with limits, by default those for the source's size.

    Returns the child's result: kind, title, hashes, notes.

    Raises the CheckpointError that the child sent, or Malformed if it ended without a result.
    """
    return run_child(conversion.job(), conversion.source, conversion.target, limits, report)


def run_child(
    job: Mapping[str, Any],
    source: Path,
    folder: Path,
    limits: ChildLimits | None = None,
    report: InstallProgress = lambda share, what: None,
) -> dict[str, Any]:
    """Run a job on `source` in a child process that works in `folder`. See `convert`."""
    limits = limits or ChildLimits.for_input(_size(source))
    child = _start(folder)
    timer = threading.Timer(limits.wall_s, child.kill)
    timer.start()
    with child:  # which closes its pipes
        try:
            line = json.dumps({**job, "limits": asdict(limits)})
            last = _exchange(child, line, report)
        finally:
            timer.cancel()
            child.kill()
            child.wait()
        return _result(source, last, child)


def _start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "models.checkpoints.convert.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        cwd=folder,
        text=True,
    )


def _environment() -> dict[str, str]:
    """Return the variables that the child needs to start, without this process's secrets."""
    kept = {
        key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH") if key in os.environ
    }
    # One thread: the stack of each further one counts against the memory limit.
    return {**kept, "PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _exchange(child: subprocess.Popen[str], job: str, report: InstallProgress) -> dict[str, Any]:
    """Send the job and return the child's last line; the lines before go to `report`."""
    assert child.stdin is not None
    assert child.stdout is not None
    last: dict[str, Any] = {}
    try:
        child.stdin.write(job + "\n")
        child.stdin.close()
        while line := child.stdout.readline(_MAX_LINE):
            last = json.loads(line)
            if "done" in last:
                report(min(last["done"] / max(last["total"], 1), 1.0), last["what"])
    except (BrokenPipeError, json.JSONDecodeError):
        return {}
    child.wait()
    return last


def _result(source: Path, last: dict[str, Any], child: subprocess.Popen[str]) -> dict[str, Any]:
    if "refused" in last:
        raise _refusal(source, last)
    if "kind" not in last or child.returncode != 0:
        assert child.stderr is not None
        output = child.stderr.read()[-2000:].strip().splitlines()[-1:]
        raise Malformed(
            f"{source.name}: reading it ended with status {child.returncode}"
            + (f" ({output[0]})" if output else "")
        )
    return last


def _refusal(source: Path, last: dict[str, Any]) -> CheckpointError:
    kind = getattr(errors, str(last.get("error")), Malformed)
    reason = last["refused"]
    message = reason if source.name in reason else f"{source.name}: {reason}"
    plain = (errors.CheckpointMissing, errors.UnknownFamily, errors.Malformed)
    return kind(message) if kind in plain else CheckpointError(message)


def _size(source: Path) -> int:
    if source.is_file():
        return source.stat().st_size
    return sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
