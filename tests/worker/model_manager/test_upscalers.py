"""The upscalers of a worker: their executor, and their bytes in the memory budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.executors.eager import Eager
from models.executors.openvino import OpenVino
from tests.support.tiny_upscalers import write_tiny_compact, write_tiny_rrdb
from worker.model_manager.warmup import installed_upscalers
from worker.settings import WorkerSettings

CPU = torch.device("cpu")


@pytest.mark.parametrize("executor", ["auto", "openvino", "eager"])
def test_executor_is_chosen_as_for_other_networks(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_rrdb(tmp_path / "home/upscalers/one", unshuffle=2)
    settings = WorkerSettings.model_validate(
        {
            "models_home": tmp_path / "home",
            "worker_cache": tmp_path / "cache",
            "worker_executor": executor,
            "worker_tune_s": 0.0,
        }
    )
    found = installed_upscalers(CPU, settings).get("one")
    assert isinstance(found.run, {"openvino": OpenVino, "eager": Eager}.get(executor, object))
    if executor == "auto":
        [choice] = (tmp_path / "cache").glob("upscaler-*.choice")
        assert choice.read_text() in ("openvino fp32", "eager fp32")
    write_tiny_rrdb(tmp_path / "eager/upscalers/one", unshuffle=2)
    eager = settings.model_copy(
        update={"models_home": tmp_path / "eager", "worker_executor": "eager"}
    )
    pixels = np.random.default_rng(0).integers(0, 256, (37, 70, 3), np.uint8)
    expected = installed_upscalers(CPU, eager).get("one").enlarge(pixels)
    np.testing.assert_allclose(found.enlarge(pixels), expected, atol=0.5)


def test_bytes_of_upscalers_are_reserved(tmp_path: Path) -> None:
    folder = write_tiny_compact(tmp_path / "upscalers/one")
    upscalers = installed_upscalers(CPU, WorkerSettings(models_home=tmp_path))
    weights = (folder / "diffusion_pytorch_model.safetensors").stat().st_size
    assert 0.5 * weights < upscalers.reserve() < weights
