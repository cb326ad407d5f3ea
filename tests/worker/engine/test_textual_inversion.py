"""Embeddings in the model store are published, counted and used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from protocol.registry.tokenizer import PublishedTokenizer
from service.jobs.tokens import counter_of
from tests.support.tiny_models import CONTEXT, write_tiny_sd
from worker.model_info.model_description import describe_models
from worker.settings import WorkerSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sd(tmp_path_factory.mktemp("tiny-sd"))


def test_embeddings_that_fit_are_published_and_counted(folder: Path, tmp_path: Path) -> None:
    words = tmp_path / "embeddings"
    words.mkdir()
    save_file({"emb_params": torch.ones(4, CONTEXT)}, words / "my-cat.safetensors")
    save_file({"emb_params": torch.ones(4, 768)}, words / "too-wide.safetensors")
    settings = WorkerSettings(model=str(folder), models_home=tmp_path)
    (description,) = describe_models(settings, torch.device("cpu")).descriptions.values()
    assert description.card.embeddings == ("my-cat",)
    count = counter_of(PublishedTokenizer.model_validate_json(description.tokenizer_json))
    assert count("the my-cat") == 5
