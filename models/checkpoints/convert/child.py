"""The child process that converts untrusted files: `python -m models.checkpoints.convert.child`.

It reads one job as JSON from standard input and writes lines of JSON to standard output: progress,
and last the result or the refusal. It runs with resource limits and without secrets in its
environment, and imports no network code.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.convert.limits import ChildLimits
from models.checkpoints.convert.outline import make_outline
from models.checkpoints.errors import CheckpointError


def main() -> int:
    """Convert or outline one source; return 0 if it succeeded, 1 if the source was refused."""
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    ChildLimits(**job["limits"]).impose()
    try:
        _send(**(_outline(job) if "outline" in job else _conversion(job)))
    except CheckpointError as error:
        _send(refused=str(error), error=type(error).__name__)
        return 1
    except MemoryError:
        _send(refused="reading it takes more memory than a file of its size can need")
        return 1
    return 0


def _outline(job: dict[str, Any]) -> dict[str, Any]:
    make_outline(Path(job["source"]), Path(job["outline"]))
    return {"kind": "outline"}


def _conversion(job: dict[str, Any]) -> dict[str, Any]:
    conversion = Conversion(
        source=Path(job["source"]),
        target=Path(job["target"]),
        kind=job["kind"],
        tokenizer=_path(job["tokenizer"]),
        within=_path(job["within"]),
        pools=job.get("pools"),
        ema=job.get("ema"),
        report=lambda done, total, what: _send(done=done, total=total, what=what),
    )
    made = conversion.run()
    return {"kind": made.kind, "title": made.title, "hashes": made.hashes, "notes": made.notes}


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _send(**line: Any) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
