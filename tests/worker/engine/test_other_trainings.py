"""Models with EDM preconditioning and flows in one engine with a model of betas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from tests.models.published.families import EDM_DPM, EDM_EULER
from tests.support.tiny_models import write_tiny_sd
from tests.worker.engine.test_engine import RecordingListener, png, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, Pixels

SLOTS = 6
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}

# The model, and the fields of a request, whose seed is its place here.
CROWD = (
    ("betas", {"sampler": "euler", "schedule": "karras"}),
    ("edm", {"sampler": "dpmpp_2m", "schedule": "karras", "steps": 5}),
    ("edm", {"sampler": "ddim", "schedule": "trailing", "guidance_scale": 1.0}),
    ("edm", {"sampler": "euler_ancestral", "schedule": "exponential", "steps": 3}),
    ("cosxl", {"sampler": "euler", "schedule": "exponential"}),
    ("cosxl", {"sampler": "dpmpp_sde", "schedule": "sgm_uniform"}),
    ("flow", {"sampler": "euler", "schedule": "flow"}),
    ("flow", {"sampler": "unipc", "schedule": "flow-unipc", "steps": 6}),
    ("flow", {"sampler": "dpmpp_2m_sde", "schedule": "flow-dpm", "guidance_scale": 1.0}),
    ("flow", {"sampler": "euler", "schedule": "flow", "task": "img2img", "strength": 0.6}),
    ("edm", {"sampler": "dpmpp_2m", "schedule": "karras", "task": "img2img", "strength": 0.6}),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LatentDiffusion]:
    folder: Path = tmp_path_factory.mktemp("trainings")
    kinds: dict[str, dict[str, object]] = {
        "betas": {},
        "edm": dict(EDM_DPM),
        "cosxl": dict(EDM_EULER),
        "flow": dict(FLOW),
    }
    return {
        name: load_model(str(write_tiny_sd(folder / name, **scheduler)), torch.device("cpu"))
        for name, scheduler in kinds.items()
    }


def admitted(engine: DiffusionEngine, number: int) -> RecordingListener:
    name, fields = CROWD[number]
    more = {"image_key": "inputs/" + "0" * 64} if "task" in fields else {}
    image = png("RGB", (32, 32), (200, 90, 30)) if more else None
    listener = RecordingListener()
    its_request = request(model=name, seed=number, **fields, **more)
    engine.admit(AdmittedJob(f"job-{number}", its_request, image, None, listener))
    return listener


def test_a_mixed_crowd_gives_what_each_gives_alone(models: dict[str, LatentDiffusion]) -> None:
    engine = engine_of(models)
    waiting, listeners = list(range(len(CROWD))), {}
    while waiting or not engine.idle:
        while waiting and engine.free_slots:
            number = waiting.pop()
            listeners[number] = admitted(engine, number)
        engine.step()
    for number in range(len(CROWD)):
        np.testing.assert_array_equal(image(listeners[number]), alone(models, number))


def test_images_depend_on_the_training(models: dict[str, LatentDiffusion]) -> None:
    """All models have the same weights."""
    images = [alone(models, number) for number in (0, 1, 4, 6)]
    assert len({pixels.tobytes() for pixels in images}) == len(images)


def engine_of(models: dict[str, LatentDiffusion]) -> DiffusionEngine:
    return DiffusionEngine(
        {name: unmeasured(model, SLOTS) for name, model in models.items()}, SLOTS
    )


def alone(models: dict[str, LatentDiffusion], number: int) -> Pixels:
    engine = engine_of({CROWD[number][0]: models[CROWD[number][0]]})
    listener = admitted(engine, number)
    run(engine)
    return image(listener)


def image(listener: RecordingListener) -> Pixels:
    return listener.images[0][0]
