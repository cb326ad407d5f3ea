"""Which pictures pass the autoencoder in tiles: a matter of their size and the machine's memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.executors.tiling import bytes_per_pixel
from models.pipeline import LatentDiffusion
from tests.worker.engine.test_engine import Heard, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob
from worker.model_manager import tiling as tiles
from worker.model_manager.tiling import SHARE, memory, with_tiles

LATENTS = torch.randn(1, 4, 12, 20, generator=torch.Generator().manual_seed(1))
PIXELS = 48 * 80


@pytest.mark.parametrize(
    ("side", "memory_of", "cut"),
    [(0, 1, False), (32, 1e12, True), (96, 1, False), (None, 1.1, False), (None, 0.9, True)],
)
def test_a_picture_is_cut_when_it_is_told_or_when_memory_demands_it(
    model: LatentDiffusion,
    monkeypatch: pytest.MonkeyPatch,
    side: int | None,
    memory_of: float,
    cut: bool,
) -> None:
    needed = PIXELS * bytes_per_pixel(model.autoencoder)
    monkeypatch.setattr(tiles, "memory", lambda device: int(memory_of * needed / SHARE))
    drawn = with_tiles(model, side).decode(LATENTS)
    assert torch.equal(drawn, model.decode(LATENTS)) != cut


def test_this_machine_has_memory() -> None:
    assert memory(torch.device("cpu")) > 2**28


def test_a_picture_in_tiles_is_the_same_in_any_company(model: LatentDiffusion) -> None:
    cut = with_tiles(model, 16)
    pictures = []
    for company in (0, 3):
        engine = DiffusionEngine({"tiny": unmeasured(cut, 4)}, max_slots=4)
        heard = Heard()
        engine.admit(AdmittedJob("it", request(width=48), None, None, heard))
        for i in range(company):
            other = request(width=48, seed=90 + i, steps=2 + i)
            engine.admit(AdmittedJob(str(i), other, None, None, Heard()))
        run(engine)
        pictures.append(heard.images[0][0])
    assert np.array_equal(pictures[0], pictures[1])
