"""Autotuning for a GPU, with a recorder that only repeats: the images stay the same."""

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
from models.tuning import cuda_autotune
from models.tuning.cuda_autotune import CudaOptions, autotune_cuda
from models.tuning.quality import compare
from tests.support.tiny_models import write_tiny_controlnet

SIZE = (32, 32)


@pytest.fixture(autouse=True)
def _no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the measurement of our kernels: it takes a minute in the interpreter.

    test_kernels.py chooses them.
    """
    if not torch.cuda.is_available():
        monkeypatch.setattr(cuda_autotune, "autotune_fused", lambda network, forward: {})
        monkeypatch.setattr(
            cuda_autotune, "autotune_slot_update", lambda shape, slots, device: slot_update
        )


def repeating(device: torch.device) -> Recorder:
    def record(run: Callable[[], None]) -> Replay:
        return run

    return record


def test_tuned_model_generates_the_same_images(
    tiny_sd: LatentDiffusion, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        ready = autotune_cuda(tiny_sd, SIZE, CudaOptions(rows=4), repeating)
    assert ready.executors.name in caplog.text
    assert ready.executors.name.startswith("cuda graphs of ")
    assert compare(tiny_sd, ready, SIZE) > 60  # decibels: a few values rounded the other way


def test_tuned_model_runs_controlnets(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    write_tiny_controlnet(tmp_path / "edges", tiny_sd.folder)
    net = ControlNets(tmp_path).get("edges", tiny_sd)
    image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(5))
    params = SamplingParams("a cat", width=32, height=32, steps=3, guidance_scale=4.0)
    controlled = replace(params, controls=(ControlImage(net, image), ControlImage(net, 1 - image)))
    ready = autotune_cuda(tiny_sd, SIZE, CudaOptions(rows=4), repeating)
    plain, expected, with_controls = (
        list(model.generate([of]))[-1][0].x
        for model, of in ((tiny_sd, params), (tiny_sd, controlled), (ready, controlled))
    )
    torch.testing.assert_close(with_controls, expected, rtol=0, atol=1e-4)
    assert float((plain - expected).abs().max()) > 0.1


def test_fp8_is_refused_on_unsupported_devices(
    tiny_sd: LatentDiffusion, caplog: pytest.LogCaptureFixture
) -> None:
    ready = autotune_cuda(tiny_sd, SIZE, CudaOptions(fp8=True, rows=2), repeating)
    assert "does not multiply it" in caplog.text
    assert "fp8" not in ready.executors.name


@pytest.mark.parametrize(("required", "used"), [(-100.0, True), (1000.0, False)])
def test_fp8_is_used_only_if_exact_enough(
    tiny_sd: LatentDiffusion,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    required: float,
    used: bool,
) -> None:
    monkeypatch.setattr(cuda_autotune, "available", lambda device: True)
    monkeypatch.setattr(cuda_autotune, "on_tensor_cores", emulated)
    monkeypatch.setattr(cuda_autotune, "REQUIRED_DB", required)
    ready = autotune_cuda(tiny_sd, SIZE, CudaOptions(fp8=True, rows=2), repeating)
    assert ("fp8" in ready.executors.name) is used
    assert ("fp8 is not used" in caplog.text) is not used


def test_quality_check_measures_the_change_by_fp8(tiny_sd: LatentDiffusion) -> None:
    quantised = quantise_unet(tiny_sd.unet, emulated)
    executors = eager_executors(quantised, tiny_sd.autoencoder)
    other = replace(tiny_sd, executors=executors)
    assert compare(tiny_sd, tiny_sd, SIZE) == float("inf")
    assert 5 < compare(tiny_sd, other, SIZE) < 60


@pytest.mark.gpu
def test_model_tuned_on_a_gpu_generates_the_same_images(tiny_sd: LatentDiffusion) -> None:
    from models.loading.loader import load_model

    model = load_model(str(tiny_sd.folder), torch.device("cuda"))
    ready = autotune_cuda(model, SIZE, CudaOptions(rows=4))
    assert compare(model, ready, SIZE) > 30
