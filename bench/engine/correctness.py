"""Correctness of a device: networks compared with diffusers, images compared across batches.

    python -m bench correctness [--workload sd15|sdxl]

For each model, with random weights at the published size, these are compared:
- the UNet, the decoder and the text encoders with those of diffusers and transformers, with the
  same files on the same device;
- the executor of the worker (graphs, custom kernels, the chosen attention) with plain PyTorch;
- images generated alone with images generated in a batch with others, bit by bit;
- FP8 with half precision, where FP8 is available.
The exit status is 1 if a check fails. --smoke uses tiny models and also runs on a CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.common.report import arguments, publish, table
from bench.common.workloads import WORKLOADS, folder
from models.conditioners.clip import text_stages
from models.cuda import fp8
from models.denoising.denoiser import DenoisingState
from models.denoising.sampling_params import SamplingParams
from models.executors.base import denoiser
from models.loading.loader import default_device, load_model
from models.networks.unet import AddedConditioning
from models.pipeline import LatentDiffusion
from models.tuning.cuda_autotune import CudaOptions, autotune_cuda
from models.tuning.quality import REQUIRED_DB, compare
from tests.support.tiny_models import write_tiny_sd, write_tiny_sdxl

# ‖ours − theirs‖ / ‖theirs‖. Two orders of additions in half precision differ by about 1e-3 through
# the depth of these networks; a wrong operator differs by more than a tenth.
TOLERANCES = {torch.float16: 2e-2, torch.float32: 1e-3}
ROWS = 3
SAMPLERS = ("dpmpp_2m", "euler", "ddim", "unipc", "euler_ancestral")
STEPS = 3


@dataclass(frozen=True)
class Check:
    """A measured `value` that must be at most `bound`, or at least `bound` if `least`."""

    model: str
    what: str
    value: float
    bound: float
    least: bool = False

    @property
    def passed(self) -> bool:
        return self.value >= self.bound if self.least else self.value <= self.bound


def checks(name: str, path: Path, side: int, device: torch.device) -> Iterator[Check]:
    """Yield all checks of the model in `path`, with images of `side` pixels."""
    model = load_model(str(path), device)
    tolerance = TOLERANCES[model.dtype]
    with torch.inference_mode():
        for what, error in (*_against_diffusers(model, path, side), *_text(model, path)):
            yield Check(name, f"{what}, compared with diffusers", error, tolerance)
    inputs = _inputs(model, side, ROWS)
    expected = model.executors.denoiser(*inputs)  # before `prepare` replaces kernels of the layers
    ready = _ready(model, side)
    error = relative_error(ready.executors.denoiser(*inputs), expected)
    yield Check(name, "UNet as the worker runs it, compared with eager", error, tolerance)
    latents, images = different_in_batch(ready, side)
    yield Check(name, "latents that differ in a batch with others", latents, 0)
    yield Check(name, "images that differ in a batch with others", images, 0)
    if fp8.available(device):
        eight = autotune_cuda(model, (side, side), CudaOptions(fp8=True, rows=4))
        if "fp8" in eight.executors.name:
            decibels = compare(model, eight, (side, side))
            what = "fp8 compared with half precision, dB"
            yield Check(name, what, decibels, REQUIRED_DB, least=True)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Return ‖ours − theirs‖ / ‖theirs‖, or infinity if a value is not a number."""
    difference = (ours.double() - theirs.double()).norm() / theirs.double().norm()
    return float(difference) if difference.isfinite() else float("inf")


def _ready(model: LatentDiffusion, side: int) -> LatentDiffusion:
    """Return the model as a worker runs it on a GPU; on a CPU, return it unchanged."""
    if model.device.type != "cuda":
        return model
    return autotune_cuda(model, (side, side), CudaOptions(rows=16))


def _inputs(model: LatentDiffusion, side: int, rows: int) -> tuple[Tensor, ...]:
    x, *rest = denoiser(model.unet).examples(rows)
    shape = model.latent_shape(side, side)
    return torch.randn(rows, *shape, device=model.device).to(x), *rest


def _against_diffusers(
    model: LatentDiffusion, path: Path, side: int
) -> Iterator[tuple[str, float]]:
    import diffusers

    def load(kind: Any, part: str, dtype: torch.dtype) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind.from_pretrained(path / part, torch_dtype=dtype).to(model.device)

    x, timestep, context, *added = _inputs(model, side, ROWS)
    cond = AddedConditioning.of(model.unet.config, added) or AddedConditioning()
    named = {"text_embeds": cond.pooled, "time_ids": cond.time_ids} if model.is_sdxl else None
    unet = load(diffusers.UNet2DConditionModel, "unet", model.dtype)
    theirs = unet(x, timestep, context, timestep_cond=cond.guidance, added_cond_kwargs=named).sample
    yield "UNet", relative_error(model.executors.denoiser(x, timestep, context, *added), theirs)
    autoencoder = load(diffusers.AutoencoderKL, "vae", model.autoencoder.dtype)
    z = x[:1].to(model.autoencoder.dtype)
    theirs = autoencoder.decode(z).sample
    yield "decoder", relative_error(model.executors.decoder(z), theirs)


def _text(model: LatentDiffusion, path: Path) -> Iterator[tuple[str, float]]:
    import transformers

    for number, stage in enumerate(text_stages(model.conditioner)):
        part = f"text_encoder_{number + 1}" if number else "text_encoder"
        projects = stage.encoder.config.with_projection
        kind = transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel
        theirs = kind.from_pretrained(path / part, dtype=model.dtype).to(model.device)
        ids = torch.tensor(stage.tokenizer.rows("a red cat, the cat"), device=model.device)
        expected = theirs(ids, output_hidden_states=True).hidden_states[-2]
        yield part.replace("_", " "), relative_error(stage.encoder(ids).hidden_states[-2], expected)


def different_in_batch(model: LatentDiffusion, side: int) -> tuple[int, int]:
    """Count the latents and the images that differ between a batch and a run alone.

    There is one image for each of several samplers.
    """
    batch = [_denoising_state(model, side, number) for number in range(len(SAMPLERS))]
    _denoise(model, batch)
    latents = images = 0
    for number, batched in enumerate(batch):
        alone = _denoising_state(model, side, number)
        _denoise(model, [alone])
        latents += not torch.equal(alone.x, batched.x)
        both = model.decode(torch.stack([batched.x, alone.x]))
        images += not torch.equal(both[0], model.decode(alone.x[None])[0])
    return latents, images


def _denoising_state(model: LatentDiffusion, side: int, number: int) -> DenoisingState:
    params = SamplingParams(
        "the red cat",
        width=side,
        height=side,
        steps=STEPS,
        sampler=SAMPLERS[number],
        guidance_scale=1.0 if number == 1 else 5.0,
    )
    return model.start(params, [number])[0]


def _denoise(model: LatentDiffusion, batch: list[DenoisingState]) -> None:
    while running := [state for state in batch if not state.done]:
        model.advance(running)


def _tiny(target: Path) -> Iterator[tuple[str, Path, int]]:
    yield "tiny sd", write_tiny_sd(target / "sd"), 32
    yield "tiny sdxl", write_tiny_sdxl(target / "sdxl"), 32


def options() -> argparse.ArgumentParser:
    parser = arguments("correctness", __doc__)
    parser.add_argument("--workload", choices=("sd15", "sdxl"), action="append")
    return parser


def main() -> int:
    given = options().parse_args()
    device = default_device()
    with tempfile.TemporaryDirectory() as temporary:
        models = list(_tiny(Path(temporary))) if given.smoke else [
            (name, folder(WORKLOADS[name]), WORKLOADS[name].side)
            for name in given.workload or ("sd15", "sdxl")
        ]  # fmt: skip
        done = [check for model in models for check in checks(*model, device)]
    columns = ("check", "model", "value", "bound", "passed")
    rows = [(c.what, c.model, float(c.value), float(c.bound), c.passed) for c in done]
    publish(
        "correctness",
        given,
        str(device),
        [table("Correctness", columns, rows)],
        {"checks": [{**asdict(check), "passed": check.passed} for check in done]},
    )
    return 0 if all(check.passed for check in done) else 1


if __name__ == "__main__":
    sys.exit(main())
