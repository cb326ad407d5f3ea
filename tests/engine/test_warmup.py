"""Getting ready: what runs the networks is chosen, kept, and named in the settings or refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from models.loading import load_model
from models.pipeline import LatentDiffusion, Recipe
from tests.tiny_models import write_tiny_sd
from worker.settings import WorkerSettings
from worker.warmup import ready_engine, ready_model

SIZE = (32, 32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_sd(folder)
    return load_model(str(folder), torch.device("cpu"))


def settings(cache: Path, **chosen: Any) -> WorkerSettings:
    return WorkerSettings(worker_cache=cache, worker_tune_s=2.0, worker_slots=2, **chosen)


def draw(model: LatentDiffusion) -> torch.Tensor:
    recipe = Recipe("a", width=32, height=32, steps=3, seed=5, guidance_scale=3.0)
    last = list(model.generate([recipe]))[-1]
    return torch.stack([t.x for t in last])


@pytest.mark.parametrize("attention", ["sdpa", "reference"])
def test_the_attention_asked_for_is_used(
    model: LatentDiffusion, attention: str, tmp_path: Path
) -> None:
    ready = ready_model(model, SIZE, settings(tmp_path, worker_attention=attention))
    assert draw(ready).isfinite().all()


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ({"worker_attention": "flash3"}, r"flash3.*sdpa"),
        ({"worker_precision": "fp8"}, "fp8.*fp32 or bf16"),
    ],
)
def test_what_is_not_here_is_refused(
    model: LatentDiffusion, chosen: dict[str, str], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=named):
        ready_model(model, SIZE, settings(tmp_path, **chosen))


def test_a_second_worker_makes_the_same_choice_without_measuring(
    model: LatentDiffusion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = ready_model(model, SIZE, settings(tmp_path))
    assert "ms a row" in caplog.text
    caplog.clear()
    second = ready_model(model, SIZE, settings(tmp_path))
    assert "ms a row" not in caplog.text
    assert first.executors.name == second.executors.name
    assert torch.equal(draw(first), draw(second))


def test_a_folder_that_cannot_be_made_costs_time_only(
    model: LatentDiffusion, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    engine = ready_engine(model, SIZE, settings(tmp_path / "file" / "cache"))
    assert engine.idle
