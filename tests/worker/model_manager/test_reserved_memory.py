"""The memory that extra networks take beside the models: reserved, and not used by steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.loading.controlnets import KEPT, ControlNets, load_controlnet
from models.loading.loader import load_model
from models.lora.merging import layers_of
from models.lora.registry import LoraRegistry
from protocol.request.request import LoraUse
from tests.models.lora import spellings
from tests.support.tiny_models import write_tiny_controlnet, write_tiny_sd
from tests.worker.engine.test_engine import RecordingListener, request
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.engine.merged_loras import MIB, MergedLoras
from worker.interfaces import AdmittedJob
from worker.model_manager.warmup import reserved_bytes
from worker.settings import WorkerSettings

CPU = torch.device("cpu")


def write_lora(folder: Path, home: Path) -> None:
    layers = layers_of(load_model(str(folder), torch.device("meta")))
    pairs = spellings.random_pairs(layers, spellings.attention_of(layers))
    spellings.save(home / "loras/one.safetensors", spellings.kohya(pairs))


def test_budget_leaves_room_for_merged_loras_and_the_largest_controlnets(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = WorkerSettings(models_home=home, worker_lora_cache_mb=7)
    assert reserved_bytes(settings, CPU) == 0
    model = write_tiny_sd(tmp_path / "sd")
    for number in range(KEPT + 1):
        write_tiny_controlnet(home / f"controlnets/net{number}", model, seed=number)
    (home / "controlnets/broken").mkdir()
    (home / "controlnets/broken/config.json").write_text("{}")
    (home / "controlnets/broken/diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    net = load_controlnet(home / "controlnets/net0", torch.float32, CPU)
    weights = sum(parameter.nbytes for parameter in net.parameters())
    assert reserved_bytes(settings, CPU) == KEPT * weights
    assert ControlNets(home / "controlnets").reserve(torch.float16) == KEPT * weights // 2
    assert reserved_bytes(settings, CPU, [model]) == KEPT * weights
    write_lora(model, model)
    assert reserved_bytes(settings, CPU) == KEPT * weights
    assert reserved_bytes(settings, CPU, [model]) == KEPT * weights + 7 * MIB
    write_lora(model, home)
    assert reserved_bytes(settings, CPU) == KEPT * weights + 7 * MIB


def test_steps_use_only_what_merged_loras_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_sd(tmp_path / "sd")
    write_lora(folder, tmp_path)
    model, asked = load_model(str(folder), CPU), list[torch.device]()

    def free(device: torch.device) -> float:
        asked.append(device)
        return 1e12

    monkeypatch.setattr("worker.engine.engine.free_bytes", free)
    loras = MergedLoras(LoraRegistry(tmp_path / "loras"), 64 * MIB)
    engine = DiffusionEngine({"tiny": unmeasured(model, 2)}, 2, merged_loras=loras)
    counts = []
    for uses in ((), (LoraUse(name="one"),), (LoraUse(name="one"),)):
        job = AdmittedJob("job", request(loras=uses), None, None, RecordingListener())
        engine.admit(job)
        counts.append(len(asked))
    assert counts == [0, 1, 1]  # measured again when more is held, and only then
