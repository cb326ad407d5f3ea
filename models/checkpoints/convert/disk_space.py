"""Free space on disk, checked before large files are written."""

from __future__ import annotations

import shutil
from pathlib import Path

from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import component_files
from models.checkpoints.hub import CONVERTIBLE, model_files

RESERVE = 256 * 2**20  # bytes that are left free for everything else on the disk


def check_space(folder: Path, needed: int) -> None:
    """Check that a folder, which may not exist yet, has room for `needed` bytes.

    Raises CheckpointError.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free - RESERVE
    if needed > free:
        raise CheckpointError(
            f"{needed / 1e9:.2f} GB are needed in {folder}, "
            f"but {max(free, 0) / 1e9:.2f} GB are free"
        )


def converted_size(source: Path) -> int:
    """Return about how many bytes the conversion of a file, or of a folder's weights, writes."""
    if source.is_file():
        return source.stat().st_size
    files = {str(path.relative_to(source)): path for path in source.rglob("*") if path.is_file()}
    choose = model_files if "model_index.json" in files else component_files
    return sum(
        files[name].stat().st_size for name in choose(files, half=False, suffixes=CONVERTIBLE)
    )
