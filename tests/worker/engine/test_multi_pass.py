"""Images of two passes: in a batch with others they are the same as alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from protocol.errors import JobFailed
from protocol.request.request import HiresFix, Refinement
from tests.support.tiny_models import write_tiny_refiner, write_tiny_sdxl
from tests.worker.engine.test_engine import RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob

LARGER = HiresFix(width=48, height=64, steps=6, strength=0.5)
REFINED = Refinement(model="refiner", start=0.5)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LatentDiffusion]:
    base = write_tiny_sdxl(tmp_path_factory.mktemp("base"))
    refiner = write_tiny_refiner(tmp_path_factory.mktemp("refiner"))
    cpu = torch.device("cpu")
    return {"tiny": load_model(str(base), cpu), "refiner": load_model(str(refiner), cpu)}


def generate(
    models: dict[str, LatentDiffusion], *jobs: dict[str, object]
) -> list[RecordingListener]:
    engine = DiffusionEngine(
        {name: unmeasured(model, 4) for name, model in models.items()}, max_slots=4
    )
    listeners = [RecordingListener() for _ in jobs]
    for number, (job, listener) in enumerate(zip(jobs, listeners, strict=True)):
        engine.admit(AdmittedJob(f"job {number}", request(**job), None, None, listener))
    run(engine)
    return listeners


def test_two_passes_of_one_model(model: LatentDiffusion) -> None:
    (listener,) = generate({"tiny": model}, {"enlargement": LARGER, "n": 2})
    assert listener.images[0][0].shape == (64, 48, 3)
    assert listener.progress[-1] == (2 * (4 + 3), 2 * (4 + 3))
    assert listener.timings is not None
    assert not np.array_equal(listener.images[0][0], listener.images[1][0])


def test_two_models_for_one_image(pair: dict[str, LatentDiffusion]) -> None:
    plain, refined = generate(pair, {"steps": 6}, {"steps": 6, "refinement": REFINED})
    assert refined.progress[-1] == (6, 6)
    assert refined.images[0][0].shape == (32, 32, 3)
    assert not np.array_equal(plain.images[0][0], refined.images[0][0])


def test_images_in_a_batch_with_others_are_the_same(pair: dict[str, LatentDiffusion]) -> None:
    jobs: list[dict[str, object]] = [
        {"steps": 6, "refinement": REFINED},
        {"steps": 3, "seed": 9},
        {"enlargement": LARGER},
        {"steps": 8, "refinement": REFINED, "sampler": "euler_ancestral"},
        {"model": "refiner", "seed": 2},
    ]
    together = generate(pair, *jobs)
    for job, listener in zip(jobs, together, strict=True):
        (alone,) = generate(pair, job)
        np.testing.assert_array_equal(alone.images[0][0], listener.images[0][0])


def test_missing_refiner_is_refused(model: LatentDiffusion) -> None:
    with pytest.raises(JobFailed, match="does not have the refiner"):
        generate({"tiny": model}, {"refinement": REFINED})
