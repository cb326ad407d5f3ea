"""The key of kept graphs covers every file of the networks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import models
from models.executors.base import source_digest

FOLDER = Path(models.__file__).parent
COMPUTING = ("networks", "autoencoders", "denoising", "executors", "cuda")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the source of `models/`."""
    target = tmp_path_factory.mktemp("source") / "models"
    shutil.copytree(
        FOLDER, target, ignore=lambda folder, names: {"bundled", "__pycache__"} & {*names}
    )
    return target


def test_same_source_gives_same_key(copy: Path) -> None:
    assert source_digest(copy) == source_digest(FOLDER)


@pytest.mark.parametrize("package", COMPUTING)
def test_any_changed_file_changes_the_key(copy: Path, package: str) -> None:
    before = source_digest(copy)
    files = sorted((copy / package).rglob("*.py"))
    assert files
    for file in files:
        source = file.read_bytes()
        file.write_bytes(source + b"# changed\n")
        assert source_digest(copy) != before, file
        file.write_bytes(source)
    assert source_digest(copy) == before
