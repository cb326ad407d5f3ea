"""A model made ready as on a GPU, with a recorder that only repeats: it draws what it drew."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.cuda.fp8 import emulated, quantise_unet
from models.cuda.graphs import Recorder, Replay
from models.denoising.sampling_params import ControlImage, SamplingParams
from models.denoising.slot_update import slot_update
from models.executors.eager import eager_executors
from models.loading.controlnets import ControlNets
from models.pipeline import LatentDiffusion
from models.tuning import cuda_autotune as preparing
from models.tuning.cuda_autotune import Wanted, prepare
from models.tuning.quality import compare
from tests.support.tiny_models import write_tiny_controlnet

SIZE = (32, 32)


@pytest.fixture(autouse=True)
def _no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring our kernels takes a minute in the interpreter; test_kernels.py chooses them."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(preparing, "choose_fused", lambda network, forward: {})
        monkeypatch.setattr(preparing, "choose_update", lambda shape, slots, device: slot_update)


def repeating(device: torch.device) -> Recorder:
    def record(run: Callable[[], None]) -> Replay:
        return run

    return record


def test_a_prepared_model_draws_the_same_pictures(
    tiny_sd: LatentDiffusion, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        ready = prepare(tiny_sd, SIZE, Wanted(rows=4), repeating)
    assert ready.executors.name in caplog.text
    assert ready.executors.name.startswith("cuda graphs of ")
    assert compare(tiny_sd, ready, SIZE) > 60  # decibels: a few values rounded the other way


def test_a_prepared_model_hears_controlnets(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    write_tiny_controlnet(tmp_path / "edges", tiny_sd.folder)
    net = ControlNets(tmp_path).get("edges", tiny_sd)
    image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(5))
    recipe = SamplingParams("a cat", width=32, height=32, steps=3, guidance_scale=4.0)
    told = replace(recipe, controls=(ControlImage(net, image), ControlImage(net, 1 - image)))
    ready = prepare(tiny_sd, SIZE, Wanted(rows=4), repeating)
    plain, expected, heard = (
        list(model.generate([asked]))[-1][0].x
        for model, asked in ((tiny_sd, recipe), (tiny_sd, told), (ready, told))
    )
    torch.testing.assert_close(heard, expected, rtol=0, atol=1e-4)
    assert float((plain - expected).abs().max()) > 0.1


def test_eight_bits_are_refused_where_they_cannot_be_multiplied(
    tiny_sd: LatentDiffusion, caplog: pytest.LogCaptureFixture
) -> None:
    ready = prepare(tiny_sd, SIZE, Wanted(fp8=True, rows=2), repeating)
    assert "does not multiply it" in caplog.text
    assert "fp8" not in ready.executors.name


@pytest.mark.parametrize(("required", "used"), [(-100.0, True), (1000.0, False)])
def test_eight_bits_pass_the_gate_or_are_not_used(
    tiny_sd: LatentDiffusion,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    required: float,
    used: bool,
) -> None:
    monkeypatch.setattr(preparing, "available", lambda device: True)
    monkeypatch.setattr(preparing, "on_tensor_cores", emulated)
    monkeypatch.setattr(preparing, "REQUIRED_DB", required)
    ready = prepare(tiny_sd, SIZE, Wanted(fp8=True, rows=2), repeating)
    assert ("fp8" in ready.executors.name) is used
    assert ("fp8 is not used" in caplog.text) is not used


def test_the_gate_sees_what_eight_bits_change(tiny_sd: LatentDiffusion) -> None:
    twin = quantise_unet(tiny_sd.unet, emulated)
    executors = eager_executors(twin, tiny_sd.autoencoder)
    other = replace(tiny_sd, executors=executors)
    assert compare(tiny_sd, tiny_sd, SIZE) == float("inf")
    assert 5 < compare(tiny_sd, other, SIZE) < 60


@pytest.mark.gpu
def test_a_model_prepared_on_a_gpu_draws_the_same_pictures(tiny_sd: LatentDiffusion) -> None:
    from models.loading.loader import load_model

    model = load_model(str(tiny_sd.folder), torch.device("cuda"))
    ready = prepare(model, SIZE, Wanted(rows=4))
    assert compare(model, ready, SIZE) > 30
