"""Out of memory in a step makes the batch smaller, and changes no image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.executors.base import Run
from models.pipeline import LatentDiffusion
from protocol.errors import DarkroomError, JobFailed
from tests.worker.engine.test_engine import RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import LoadedModel, unmeasured
from worker.engine.step_profile import Measurement, StepProfile
from worker.interfaces import AdmittedJob


class SmallMemory:
    """A network without memory for more than `most` cells: rows times height times width."""

    def __init__(self, run: Run, most: int) -> None:
        self._run = run
        self.most = most
        self.seen: list[int] = []

    def __call__(self, *inputs: Tensor) -> Tensor:
        rows, _, height, width = inputs[0].shape
        self.seen.append(rows)
        if rows * height * width > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory (said by a test)")
        return self._run(*inputs)


def with_memory_for(model: LatentDiffusion, cells: int) -> tuple[LatentDiffusion, SmallMemory]:
    network = SmallMemory(model.executors.denoiser, cells)
    return replace(model, executors=replace(model.executors, denoiser=network)), network


class ErrorListener(RecordingListener):
    """Keeps the error, too."""

    def __init__(self) -> None:
        super().__init__()
        self.error: DarkroomError | None = None

    def on_error(self, error: DarkroomError) -> None:
        assert self.error is None
        self.error = error


@pytest.fixture
def cells(model: LatentDiffusion) -> int:
    """Return the cells of an image of 32 by 32 pixels."""
    _, height, width = model.latent_shape(32, 32)
    return height * width


def admit(engine: DiffusionEngine, job_id: str, **changes: object) -> ErrorListener:
    listener = ErrorListener()
    engine.admit(AdmittedJob(job_id, request(**changes), None, None, listener))
    return listener


def test_batch_that_does_not_fit_is_split_and_images_are_the_same(
    model: LatentDiffusion, cells: int
) -> None:
    plenty = DiffusionEngine({"tiny": unmeasured(model, 6)}, max_slots=6)
    expected = [admit(plenty, f"job-{i}", seed=i) for i in range(6)]
    run(plenty)

    tight_model, network = with_memory_for(model, 4 * cells)
    tight = DiffusionEngine({"tiny": unmeasured(tight_model, 6)}, max_slots=6)
    listeners = [admit(tight, f"job-{i}", seed=i) for i in range(6)]
    run(tight)
    assert network.seen[:3] == [12, 6, 2]  # twelve rows, half of them, and what fits into three
    assert max(network.seen[2:]) <= 4
    for before, after in zip(expected, listeners, strict=True):
        assert after.error is None
        assert after.timings is not None
        np.testing.assert_allclose(after.images[0][0], before.images[0][0].astype(float), atol=1)


def test_image_that_does_not_fit_alone_fails_alone(model: LatentDiffusion, cells: int) -> None:
    tight_model, _ = with_memory_for(model, 2 * cells)
    engine = DiffusionEngine({"tiny": unmeasured(tight_model, 4)}, max_slots=4)
    large, small = admit(engine, "large", width=64, n=2), admit(engine, "small")
    run(engine)
    assert isinstance(large.error, JobFailed)
    assert not large.images
    assert small.error is None
    assert small.timings is not None
    assert engine.free_slots == 4
    again = admit(engine, "again")
    run(engine)
    assert again.timings is not None


def test_image_that_cannot_fit_is_refused_at_admission(model: LatentDiffusion, cells: int) -> None:
    group = model.latent_shape(32, 32)
    measured = Measurement(group, {2: 0.01}, bytes_per_cell=10.0)
    profile = StepProfile(measured, 8, memory_bytes=10.0 * 2 * cells)
    engine = DiffusionEngine({"tiny": LoadedModel(model, profile)}, max_slots=4)
    with pytest.raises(JobFailed, match="does not fit"):
        admit(engine, "large", width=64)
    assert engine.idle
    fits = admit(engine, "small")
    run(engine)
    assert fits.timings is not None
