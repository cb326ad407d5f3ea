"""Reading of the small YAML configurations next to published files, as plain data.

Only the standard types are made. Tags of other types, aliases, and files too large or too deep are
refused: an alias can stand for much more than is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from models.checkpoints.errors import CheckpointMissing, Malformed

MAX_BYTES = 256 << 10  # published configurations have some kilobytes
MAX_DEPTH = 32


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in the file at `path`. Raises CheckpointMissing and Malformed."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CheckpointMissing(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise Malformed(f"{path} has more than {MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8")
        _check_events(text)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Malformed(f"{path} is not plain YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise Malformed(f"{path} is no YAML mapping")
    return data


def _check_events(text: str) -> None:
    """Raise ValueError for an alias or for too many levels."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"it has an alias, *{event.anchor}")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"it has more than {MAX_DEPTH} levels")
