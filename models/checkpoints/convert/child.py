"""The process that reads strange files: `python -m models.checkpoints.convert.child`, limited and
alone.

It is given one job as JSON on its standard input, and answers in lines of JSON on its standard
output: how far it is, and last what it made or why it refused. It needs no network, gets no
secrets in its environment, and imports nothing that could use either.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.convert.limits import Limits
from models.checkpoints.errors import CheckpointError


def main() -> int:
    """Do the one job; 0 if it is done, 1 if the file was refused."""
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    Limits(**job["limits"]).impose()
    conversion = Conversion(
        source=Path(job["source"]),
        target=Path(job["target"]),
        kind=job["kind"],
        tokenizer=_path(job["tokenizer"]),
        within=_path(job["within"]),
        report=lambda done, total, what: _say(done=done, total=total, what=what),
    )
    try:
        made = conversion.run()
    except CheckpointError as error:
        _say(refused=str(error), error=type(error).__name__)
        return 1
    except MemoryError:
        _say(refused="reading it takes more memory than a file of its size can need")
        return 1
    _say(kind=made.kind, title=made.title, hashes=made.hashes, notes=made.notes)
    return 0


def _path(said: str | None) -> Path | None:
    return None if said is None else Path(said)


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
