"""The hash of a model's single file, on its card as soon as a thread has read the file."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.checkpoints.file_hash import MANIFEST, MANIFEST_KEY
from protocol.registry.models_config import ModelConfig
from tests.support.tiny_models import write_tiny_sd
from worker.model_info.checkpoint_hashes import CheckpointHashes
from worker.model_info.extra_networks import ModelCards
from worker.model_info.model_description import ModelDescription, describe_models
from worker.settings import WorkerSettings

CONTENT = b"the bytes of a checkpoint"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> ModelDescription:
    """A model that is a folder."""
    settings = WorkerSettings(model=str(write_tiny_sd(tmp_path / "sd")), models_home=tmp_path)
    [model] = describe_models(settings, torch.device("cpu")).descriptions.values()
    return model


@pytest.fixture
def file(folder: ModelDescription, tmp_path: Path) -> ModelDescription:
    """The same model, as if it had been read from a single file."""
    path = tmp_path / "sd.safetensors"
    path.write_bytes(CONTENT)
    return replace(folder, source=str(path))


def test_a_card_has_the_hash_as_soon_as_the_file_is_read(
    file: ModelDescription, tmp_path: Path
) -> None:
    cards = ModelCards([file], tmp_path)
    [(card, _)] = cards.cards()
    assert (card.sha256, card.short_hash) == ("", "")  # nothing is read before the model serves
    while not card.sha256:
        cards.refresh()
        [(card, _)] = cards.cards()
    assert (card.sha256, card.short_hash) == (DIGEST, DIGEST[:10])


def test_a_file_is_read_once(file: ModelDescription) -> None:
    hashes = CheckpointHashes()
    assert hashes.of(file) == ""
    hashes.compute()
    hashes.wait()
    Path(file.source).unlink()  # a later worker does not need it
    for one in (hashes, CheckpointHashes()):
        assert one.of(file) == DIGEST
        one.compute()
        one.wait()
        assert one.of(file) == DIGEST


def test_a_hash_is_known_where_it_cannot_be_kept(
    file: ModelDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("models.checkpoints.file_hash.tempfile.mkstemp", refuse)
    hashes = CheckpointHashes()
    assert hashes.of(file) == ""
    hashes.compute()
    hashes.wait()
    assert hashes.of(file) == DIGEST
    assert CheckpointHashes().of(file) == ""


def test_a_file_that_cannot_be_read_is_logged_and_left(
    file: ModelDescription, caplog: pytest.LogCaptureFixture
) -> None:
    hashes = CheckpointHashes()
    assert hashes.of(file) == ""
    Path(file.source).unlink()
    with caplog.at_level(logging.WARNING):
        hashes.compute()
        hashes.wait()
        hashes.compute()
        hashes.wait()
    assert hashes.of(file) == ""
    assert [record.message for record in caplog.records] == ["cannot be hashed"]


def test_folders_have_none_but_that_of_the_file_they_were_made_from(
    folder: ModelDescription,
) -> None:
    hashes = CheckpointHashes()
    assert hashes.of(folder) == ""
    hashes.compute()
    hashes.wait()
    assert hashes.of(folder) == ""
    manifest = folder.skeleton.folder / MANIFEST
    for noted in (DIGEST[:10], "x" * 64, 5, None):
        manifest.write_text(json.dumps({MANIFEST_KEY: noted}))
        assert CheckpointHashes().of(folder) == ""
    manifest.write_text(json.dumps({MANIFEST_KEY: DIGEST}))
    assert CheckpointHashes().of(folder) == DIGEST


def test_a_model_with_another_unet_has_none(file: ModelDescription) -> None:
    other = replace(file, config=ModelConfig(source=file.source, unet="./other"))
    hashes = CheckpointHashes()
    assert hashes.of(other) == ""
    hashes.compute()
    hashes.wait()
    assert hashes.of(other) == ""
