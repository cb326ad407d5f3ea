"""Embeddings in the model store are published, counted and used."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.conditioners.textual_inversion import with_embeddings
from models.loading.embeddings import Embeddings
from models.loading.loader import load_model
from protocol.registry.tokenizer import PublishedTokenizer
from service.jobs.tokens import counter_of
from tests.support.tiny_models import CONTEXT, write_tiny_sd
from tests.worker.engine.test_engine import RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, Pixels
from worker.model_info.extra_networks import ModelCards
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


def generated(engine: DiffusionEngine, seed: int = 3) -> Pixels:
    listener = RecordingListener()
    its_request = request(prompt="the my-cat", seed=seed)
    engine.prepare(its_request)
    engine.admit(AdmittedJob("job", its_request, None, None, listener))
    run(engine)
    return listener.images[0][0]


def test_embeddings_are_picked_up_while_running(folder: Path, tmp_path: Path) -> None:
    words = tmp_path / "embeddings"
    settings = WorkerSettings(model=str(folder), models_home=tmp_path)
    descriptions = describe_models(settings, torch.device("cpu")).descriptions
    cards = ModelCards([*descriptions.values()], tmp_path)
    model = load_model(str(folder), torch.device("cpu"))
    installed = Embeddings(words)
    engine = DiffusionEngine({"tiny": unmeasured(model, 2)}, 2, embeddings=installed)
    plain = generated(engine)
    words.mkdir()
    images = []
    for turn in (1, 2):  # a new file, then another in its place
        torch.manual_seed(turn)
        save_file({"emb_params": torch.randn(2, CONTEXT)}, words / "new.tmp")
        (words / "new.tmp").rename(words / "my-cat.safetensors")
        os.utime(words / "my-cat.safetensors", ns=(0, turn))
        cards.refresh()
        [(card, tokenizer)] = cards.cards()
        assert card.embeddings == ("my-cat",)
        assert counter_of(PublishedTokenizer.model_validate_json(tokenizer))("the my-cat") == 3
        images.append(generated(engine))
        alone = with_embeddings(model.conditioner, words)
        expected = DiffusionEngine({"tiny": unmeasured(replace(model, conditioner=alone), 2)}, 2)
        np.testing.assert_array_equal(images[-1], generated(expected))
        before = installed.extended(model)
        assert installed.extended(model) is before
    assert engine.stats.cache_misses >= 2
    (words / "my-cat.safetensors").unlink()
    cards.refresh()
    [(card, _)] = cards.cards()
    assert card.embeddings == ()
    np.testing.assert_array_equal(generated(engine), plain)
    assert len({image.tobytes() for image in (plain, *images)}) == 3
    engine.remove("tiny")
    assert engine.models == {}
