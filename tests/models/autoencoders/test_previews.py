"""Previews: predicted clean latents, small images of them, and their cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoders.preview import MAX_SIDE, LinearPreview, clean_latents
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import BUNDLED, load_model
from models.loading.replacements import with_tiny
from models.pipeline import LatentDiffusion
from models.samplers import compile_table, fitting_samplers
from models.samplers.edm_schedule import EdmSchedule
from models.samplers.flow_schedule import FlowSchedule
from models.samplers.noise_schedule import NoiseLevels, NoiseSchedule
from tests.support.tiny_models import write_tiny_sd, write_tiny_vae
from tests.worker.engine.test_engine import RecordingListener, request, run
from worker.engine import previews
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, Pixels

Z0 = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(1))


BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEVELS: dict[str, NoiseLevels] = {
    "epsilon": NoiseSchedule(**BETAS),
    "v_prediction": NoiseSchedule(**BETAS, prediction_type="v_prediction"),
    "sample": NoiseSchedule(**BETAS, prediction_type="sample"),
    "edm": EdmSchedule(),
    "flow_prediction": FlowSchedule(shift=3.0),
}


def output_of(kind: str, x: Tensor, level: tuple[float, float]) -> Tensor:
    """Return the output of a network that predicts perfectly, at x = s z0 + n e."""
    s, n = level
    noise = (x - s * Z0) / n
    match kind:
        case "epsilon":
            return noise
        case "v_prediction":
            return (s * noise - n * Z0) / (s * s + n * n) ** 0.5
        case "flow_prediction":
            return noise - Z0
        case "edm":  # Karras et al. 2022, table 1
            data, sigma = 0.5, n / s
            total = sigma**2 + data**2
            return (Z0 - data**2 / total * x / s) * total**0.5 / (sigma * data)
    return Z0


@pytest.mark.parametrize(
    ("kind", "sampler"),
    [(kind, name) for kind, levels in LEVELS.items() for name in fitting_samplers(levels)],
)
def test_clean_latents_of_perfect_network_are_the_image(kind: str, sampler: str) -> None:
    """The clean latents are exact at every row of every sampler, as the engine steps it."""
    schedule = LEVELS[kind]
    spacing = "flow" if kind == "flow_prediction" else "linspace"
    table = compile_table(sampler, spacing, 8, schedule)
    seen = 0
    for row in range(1, len(table)):
        level = float(table.known_signal[row - 1]), float(table.known_noise[row - 1])
        if level[1] < 1e-3:
            continue
        x = level[0] * Z0 + level[1] * torch.randn(Z0.shape, generator=torch.Generator())
        prediction = table.predict_x[row] * x + table.predict_output[row] * output_of(
            kind, x, level
        )
        clean = clean_latents(table, row, schedule, x, prediction)
        assert clean is not None
        torch.testing.assert_close(clean, Z0, rtol=0, atol=2e-3)
        seen += 1
    assert seen >= 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    return load_model(str(write_tiny_sd(tmp_path_factory.mktemp("sd"))), torch.device("cpu"))


@pytest.fixture(scope="module")
def bundled() -> LatentDiffusion:
    return load_model(str(BUNDLED), torch.device("cpu"))


def test_linear_preview_colours_are_near_the_image(bundled: LatentDiffusion) -> None:
    linear_preview = LinearPreview.fitted(bundled.autoencoder)
    all_params = [
        SamplingParams(prompt, width=64, height=64, steps=6, seed=seed, guidance_scale=4)
        for seed, prompt in enumerate(["a slice of pizza", "a red heart"])
    ]
    latents = torch.stack([t.x for t in list(bundled.generate(all_params))[-1]])
    images = bundled.decode(latents).permute(0, 3, 1, 2).float() / 255
    expected = F.avg_pool2d(images, bundled.autoencoder.config.factor)
    mixed = torch.stack([linear_preview(one) for one in latents])
    assert np.corrcoef(mixed.flatten(), expected.flatten())[0, 1] > 0.7


@pytest.mark.parametrize("tiny", [False, True])
def test_previews_are_small(model: LatentDiffusion, tiny: bool, tmp_path: Path) -> None:
    if tiny:
        write_tiny_vae(tmp_path)
        seen_by = with_tiny(model, tmp_path)
    else:
        seen_by = replace(model, linear_preview=LinearPreview.fitted(model.autoencoder))
    for size in ((8, 12), (300, 90)):
        image = seen_by.preview(torch.randn(4, *size))
        assert image is not None
        assert image.dtype == torch.uint8
        height, width, channels = image.shape
        assert max(height, width) <= MAX_SIDE
        assert channels == 3
        assert abs(height / width - size[0] / size[1]) < 0.05 * size[0] / size[1]
    assert model.preview(torch.zeros(4, 8, 8)) is None


@dataclass
class PreviewListener(RecordingListener):
    """A listener that receives previews."""

    seen: list[Mapping[int, Pixels]] = field(default_factory=list)

    def on_previews(self, pixels: Mapping[int, Pixels]) -> None:
        self.seen.append(pixels)


def generated(model: LatentDiffusion, **changes: object) -> PreviewListener:
    engine, watcher = (
        DiffusionEngine({"tiny": unmeasured(model, 4)}, max_slots=4),
        PreviewListener(),
    )
    engine.admit(AdmittedJob("it", request(n=2, steps=6, **changes), None, None, watcher))
    run(engine)
    return watcher


def test_previews_on_request_leave_the_image_unchanged(
    model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_preview = replace(model, linear_preview=LinearPreview.fitted(model.autoencoder))
    monkeypatch.setattr(previews, "EVERY_S", 0.0)
    monkeypatch.setattr(previews, "SHARE", 1e6)
    without, with_previews = generated(with_preview), generated(with_preview, previews=True)
    assert not without.seen
    assert len(with_previews.seen) == 5  # at every row but the first
    for images in with_previews.seen:
        assert [image.shape for image in images.values()] == [(8, 8, 3)] * 2
        assert not np.array_equal(images[0], images[1])
    for index in range(2):
        assert np.array_equal(without.images[index][0], with_previews.images[index][0])
    assert not generated(model, previews=True).seen  # it has no decoder of previews


@dataclass
class Clock:
    """A clock that advances only when it is set."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("spent", "pause"), [(0.001, previews.EVERY_S), (2.0, 40.0)])
def test_previews_take_a_small_share_of_the_time(
    model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch, spent: float, pause: float
) -> None:
    clock = Clock(7.0)

    def slow(self: LinearPreview, latents: Tensor) -> Tensor:
        clock.now += spent
        return torch.zeros(3, 8, 8)

    monkeypatch.setattr(LinearPreview, "__call__", slow)
    monkeypatch.setattr(previews, "time", clock)
    with_preview = replace(model, linear_preview=LinearPreview(torch.zeros(3, 4), torch.zeros(3)))
    engine, watcher = (
        DiffusionEngine({"tiny": unmeasured(with_preview, 4)}, max_slots=4),
        PreviewListener(),
    )
    engine.admit(AdmittedJob("it", request(steps=6, previews=True), None, None, watcher))
    (slot,) = engine._slots
    engine.step()
    assert not watcher.seen
    engine.step()
    assert len(watcher.seen) == 1
    assert slot.next_preview_at == pytest.approx(7.0 + pause)
    assert not previews.snapshots([slot], 7.0 + 0.99 * pause)
    assert previews.snapshots([slot], 7.0 + 1.01 * pause)
