"""Cost of LoRAs and of the safety checker: first use, steps, and steps during a merge or a check.

python -m bench extra_networks [--model FOLDER] [--rank 16] [--smoke]
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from bench.common.report import arguments, publish, table
from models.denoising.denoiser import DenoisingState
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import default_device, load_model
from models.lora.layers import Layer, Layers
from models.lora.merging import layers_of
from models.lora.registry import LoraRegistry
from models.networks.safety_checker import SafetyChecker, VisionConfig
from models.pipeline import LatentDiffusion
from protocol.request.request import LoraUse
from worker.engine.merged_loras import MIB, MergedLoras
from worker.engine.safety import Safety
from worker.model_info.model_card import model_card
from worker.model_manager.warmup import ready_model
from worker.settings import WorkerSettings

STEPS = 30  # timed steps of each kind
CHECKS = 5  # timed runs of the safety checker
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
BUDGET = 64 * 2**30  # bytes: enough to evict nothing


def main() -> None:
    parser = arguments("extra_networks", __doc__)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--rank", type=int, default=16)
    given = parser.parse_args()
    model = load_model(given.model, default_device())
    card = model_card(model, given.model)
    size = (card.default_width, card.default_height)
    model = ready_model(model, size, WorkerSettings())
    steps = 3 if given.smoke else STEPS
    with TemporaryDirectory() as folder:
        write_loras(layers_of(model), Path(folder), given.rank)
        loras = loras_figures(model, size, Path(folder), steps)
    safety = safety_figures(model, size, steps, tiny=given.smoke)
    figures = {
        "model": card.name, "executor": model.executors.name, "rank": given.rank,
        "loras": loras, "safety": safety,
    }  # fmt: skip
    publish("extra_networks", given, str(model.device), tables(loras, safety), figures)


def write_loras(layers: Layers, folder: Path, rank: int) -> None:
    """Write random LoRAs of the attention layers and of all layers of the UNet, in FP16."""
    unet = [layer for layer in layers.shapes if layer[0] == "unet"]
    attention = [layer for layer in unet if layer[1].endswith(ATTENTION)]
    for name, chosen in (("attention", attention), ("every layer", unet)):
        tensors = [pair for layer in chosen for pair in factors(layers, layer, rank)]
        save_file(dict(tensors), folder / f"{name}.safetensors")


def factors(layers: Layers, layer: Layer, rank: int) -> list[tuple[str, torch.Tensor]]:
    component, path = layer
    out, inside, *kernel = layers.shapes[layer]
    down = torch.randn(rank, inside, *kernel).half() * 0.02
    up = torch.randn(out, rank, *(1 for _ in kernel)).half() * 0.02
    return [(f"{component}.{path}.lora_A.weight", down), (f"{component}.{path}.lora_B.weight", up)]


def loras_figures(
    model: LatentDiffusion, size: tuple[int, int], folder: Path, steps: int
) -> dict[str, dict[str, float]]:
    """Return for each LoRA the seconds of its first use, its MiB, and milliseconds of steps."""
    kinds = ("attention", "every layer")
    return {name: lora_figures(model, size, folder, name, steps) for name in kinds}


def lora_figures(
    model: LatentDiffusion, size: tuple[int, int], folder: Path, name: str, steps: int
) -> dict[str, float]:
    merged_loras = MergedLoras(LoraRegistry(folder), BUDGET)
    merged_loras.fitting(model)  # as a worker does long before
    uses = (LoraUse(name=name),)
    alone = times(stepping(model, size), steps)
    started = time.perf_counter()
    ((_, merged),) = merged_loras.timeline(model, uses)
    first = time.perf_counter() - started
    both = [stepping(model, size), stepping(merged, size)]
    own = times(both[1], steps)
    turns = times(lambda: [step() for step in both], steps)
    merged_loras.forget(model)
    during_merge = times_during(both[0], lambda: merged_loras.timeline(model, uses))
    return {
        "first_use_s": first,
        "mib": merged_loras.nbytes / MIB,
        "step_ms": 1e3 * median(alone),
        "variant_step_ms": 1e3 * median(own),
        "step_in_turns_ms": 1e3 * median(turns) / 2,
        "slowest_step_while_merging_ms": 1e3 * max(during_merge),
    }


def safety_figures(
    model: LatentDiffusion, size: tuple[int, int], steps: int, *, tiny: bool
) -> dict[str, float]:
    """Return the cost of the checker at its published size, with random weights."""
    config = VisionConfig(num_hidden_layers=1) if tiny else VisionConfig()
    checker = SafetyChecker(config).to(model.device, model.dtype).eval().requires_grad_(False)
    for parameter in checker.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    safety = Safety(checker, "flag")
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    checks = times(lambda: safety.screen(pixels), CHECKS)
    alone = times(stepping(model, size), steps)
    during_checks = times_during(
        stepping(model, size), lambda: [safety.screen(pixels) for _ in range(CHECKS)]
    )
    return {
        "look_ms": 1e3 * median(checks),
        "step_ms": 1e3 * median(alone),
        "step_while_looking_ms": 1e3 * median(during_checks),
        "slowest_step_while_looking_ms": 1e3 * max(during_checks),
    }


def stepping(model: LatentDiffusion, size: tuple[int, int]) -> Callable[[], object]:
    """Return a function that makes one step of a guided image, without end."""
    width, height = size
    params = SamplingParams(
        "", width=width, height=height, steps=50, sampler="ddim", schedule="leading",
        guidance_scale=2.0,
    )  # fmt: skip
    [state] = model.start(params, [0])

    def step() -> None:
        model.advance([state])
        rewind(state)

    step()  # the first step of a shape may choose kernels or record a graph
    return step


def rewind(state: DenoisingState) -> None:
    state.row = 0
    state.x = state.x / state.x.std()


def times(work: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of each call of `work`."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds


def times_during(step: Callable[[], object], other: Callable[[], Any]) -> list[float]:
    """Return the seconds of each call of `step` while another thread runs `other`."""
    thread = threading.Thread(target=other)
    thread.start()
    seconds: list[float] = []
    while thread.is_alive() or not seconds:
        seconds += times(step, 1)
    thread.join()
    return seconds


def tables(loras: dict[str, dict[str, float]], safety: dict[str, float]) -> list[Any]:
    columns = ("LoRA of", *next(iter(loras.values())))
    rows = [(name, *figures.values()) for name, figures in loras.items()]
    return [
        table("LoRAs", columns, rows),
        table("the safety checker", tuple(safety), [tuple(safety.values())]),
    ]


if __name__ == "__main__":
    main()
