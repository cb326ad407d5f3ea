from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from models.checkpoints.detect.detected_file import _detect_file
from models.checkpoints.detect.families import Family


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the known families: small checkpoints have the widths of no published family."""

    def replace(*families: Family) -> None:
        monkeypatch.setattr("models.checkpoints.detect.families.families", lambda: families)
        _detect_file.cache_clear()

    return replace


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a cache folder for this test only."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Run on one thread: such small networks finish before a second thread starts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
