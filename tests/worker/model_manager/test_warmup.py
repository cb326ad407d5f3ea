"""Executors and attention kernels are chosen and cached, or taken from the settings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from models.networks.attention import attention_layers, available_kernels
from models.pipeline import LatentDiffusion
from tests.support.tiny_models import write_tiny_sd
from worker.model_info.weights_dtype import weights_dtype
from worker.model_manager.warmup import ready_model, ready_resident
from worker.settings import WorkerSettings

pytestmark = pytest.mark.early

SIZE = (32, 32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_sd(folder)
    return load_model(str(folder), torch.device("cpu"))


def settings(cache: Path, **overrides: Any) -> WorkerSettings:
    return WorkerSettings(worker_cache=cache, worker_tune_s=0.5, worker_slots=2, **overrides)


def generate(model: LatentDiffusion) -> torch.Tensor:
    params = SamplingParams("a", width=32, height=32, steps=3, seed=5, guidance_scale=3.0)
    last = list(model.generate([params]))[-1]
    return torch.stack([state.x for state in last])


@pytest.mark.parametrize("attention", ["sdpa", "reference"])
def test_configured_attention_is_used(
    model: LatentDiffusion, attention: str, tmp_path: Path
) -> None:
    chosen = settings(tmp_path, worker_attention=attention, worker_executor="eager")
    ready = ready_model(model, SIZE, chosen)
    kernels = {layer.kernel for layer in attention_layers(ready.unet)}
    assert kernels == {available_kernels()[attention]}
    assert generate(ready).isfinite().all()


def test_unavailable_attention_is_refused(model: LatentDiffusion, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"flash3.*sdpa"):
        ready_model(model, SIZE, settings(tmp_path, worker_attention="flash3"))


@pytest.mark.parametrize(
    ("precision", "device", "dtype"),
    [
        ("auto", "cpu", torch.float32),
        ("bf16", "cpu", torch.float32),
        ("auto", "cuda", torch.float16),
        ("fp8", "cuda", torch.float16),
        ("fp32", "cuda", torch.float32),
    ],
)
def test_weights_are_loaded_in_a_precision_of_the_device(
    precision: str, device: str, dtype: torch.dtype
) -> None:
    assert weights_dtype(torch.device(device), precision) == dtype


@pytest.mark.parametrize(("precision", "device"), [("fp8", "cpu"), ("bf16", "cuda")])
def test_unsupported_precision_is_refused(precision: str, device: str) -> None:
    with pytest.raises(ValueError, match=f"{precision}.*on {device}"):
        weights_dtype(torch.device(device), precision)


def test_second_worker_chooses_the_same_without_measuring(
    model: LatentDiffusion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = ready_model(model, SIZE, settings(tmp_path))
    assert "ms a row" in caplog.text
    caplog.clear()
    second = ready_model(model, SIZE, settings(tmp_path))
    assert "ms a row" not in caplog.text
    assert first.executors.name == second.executors.name
    assert torch.equal(generate(first), generate(second))


def test_cache_folder_that_cannot_be_created_is_ignored(
    model: LatentDiffusion, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    resident = ready_resident(
        model, SIZE, settings(tmp_path / "file" / "cache", worker_precision="fp32")
    )
    assert resident.profile.cap(model.latent_shape(*SIZE)) >= 2
