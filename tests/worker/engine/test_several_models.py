"""Two models in one engine: they take turns, and their images are the same as alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from tests.support.tiny_models import write_tiny_sd, write_tiny_sdxl
from tests.worker.engine.test_engine import RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob

SLOTS = 4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LatentDiffusion]:
    folder: Path = tmp_path_factory.mktemp("models")
    written = {"tiny": write_tiny_sd(folder / "sd"), "tiny-xl": write_tiny_sdxl(folder / "xl")}
    cpu = torch.device("cpu")
    return {name: load_model(str(path), cpu, torch.float32) for name, path in written.items()}


def engine_of(models: dict[str, LatentDiffusion]) -> DiffusionEngine:
    return DiffusionEngine(
        {name: unmeasured(model, SLOTS) for name, model in models.items()}, SLOTS
    )


def admitted(engine: DiffusionEngine, model: str, seed: int, steps: int) -> RecordingListener:
    listener = RecordingListener()
    its_request = request(model=model, seed=seed, steps=steps)
    engine.admit(AdmittedJob(f"{model}-{seed}", its_request, None, None, listener))
    return listener


def test_each_image_equals_that_of_its_model_alone(models: dict[str, LatentDiffusion]) -> None:
    jobs = [("tiny", 1, 5), ("tiny-xl", 1, 4), ("tiny", 2, 3), ("tiny-xl", 2, 6)]
    together = engine_of(models)
    listeners = [admitted(together, *job) for job in jobs]
    run(together)
    for job, listener in zip(jobs, listeners, strict=True):
        engine = engine_of({job[0]: models[job[0]]})
        alone = admitted(engine, *job)
        run(engine)
        np.testing.assert_array_equal(listener.images[0][0], alone.images[0][0])
    first, other = listeners[0].images[0][0], listeners[1].images[0][0]
    assert not np.array_equal(first, other)  # of equal seeds


def test_step_runs_one_model(models: dict[str, LatentDiffusion]) -> None:
    engine = engine_of(models)
    for seed in range(2):
        for name in models:
            admitted(engine, name, seed, steps=3)
    rows = []
    while not engine.idle:
        engine.step()
        rows.append(engine.stats.rows)
    # There is room for all eight rows, and shapes are equal: yet only a model's own go together.
    assert max(rows) == 4
    assert len(rows) == 2 * 3


def test_model_is_put_and_removed_while_another_runs(models: dict[str, LatentDiffusion]) -> None:
    engine = engine_of({"tiny": models["tiny"]})
    going_on = admitted(engine, "tiny", seed=1, steps=12)
    engine.step()
    engine.put("tiny-xl", unmeasured(models["tiny-xl"], SLOTS))
    newcomer = admitted(engine, "tiny-xl", seed=1, steps=2)
    while newcomer.timings is None:
        engine.step()
    counted = engine.stats.cache_misses
    engine.remove("tiny-xl")
    assert list(engine.models) == ["tiny"]
    assert engine.stats.cache_misses == counted > 0
    run(engine)
    assert going_on.timings is not None
