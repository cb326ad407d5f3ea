"""Files of other projects (published configurations, vocabularies), read in place, not copied."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared_file(relative: str) -> Path:
    """Return the path `relative` in the folder `shared` next to the repository.

    Skips the calling test, with the reason, if it does not exist.
    """
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"no ../shared/{relative} next to the repository")
    return path
