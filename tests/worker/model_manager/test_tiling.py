"""Tiles of the autoencoder depend on the image size and the machine's memory alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.executors.tiling import bytes_per_pixel
from models.pipeline import LatentDiffusion
from tests.worker.engine.test_engine import RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob
from worker.model_manager import tiling
from worker.model_manager.tiling import SHARE, memory, with_tiles

LATENTS = torch.randn(1, 4, 12, 20, generator=torch.Generator().manual_seed(1))
PIXELS = 48 * 80


@pytest.mark.parametrize(
    ("side", "memory_share", "is_tiled"),
    [(0, 1, False), (32, 1e12, True), (96, 1, False), (None, 1.1, False), (None, 0.9, True)],
)
def test_image_is_tiled_by_its_size_or_when_memory_requires_it(
    model: LatentDiffusion,
    monkeypatch: pytest.MonkeyPatch,
    side: int | None,
    memory_share: float,
    is_tiled: bool,
) -> None:
    needed = PIXELS * bytes_per_pixel(model.autoencoder)
    monkeypatch.setattr(tiling, "memory", lambda device: int(memory_share * needed / SHARE))
    decoded = with_tiles(model, side).decode(LATENTS)
    assert torch.equal(decoded, model.decode(LATENTS)) != is_tiled


def test_memory_of_this_machine_is_found() -> None:
    assert memory(torch.device("cpu")) > 2**28


def test_tiled_image_is_the_same_alone_and_in_a_batch(model: LatentDiffusion) -> None:
    tiled = with_tiles(model, 16)
    images = []
    for others in (0, 3):
        engine = DiffusionEngine({"tiny": unmeasured(tiled, 4)}, max_slots=4)
        heard = RecordingListener()
        engine.admit(AdmittedJob("it", request(width=48), None, None, heard))
        for i in range(others):
            other = request(width=48, seed=90 + i, steps=2 + i)
            engine.admit(AdmittedJob(str(i), other, None, None, RecordingListener()))
        run(engine)
        images.append(heard.images[0][0])
    assert np.array_equal(images[0], images[1])
