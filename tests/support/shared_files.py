"""Other people's files (published configurations, vocabularies), read in place, never copied."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared_file(relative: str) -> Path:
    """The file or folder `relative` of the folder `shared` beside the repository.

    Skips the calling test, naming the reason, where that folder was not laid out.
    """
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"no ../shared/{relative} beside the repository")
    return path
