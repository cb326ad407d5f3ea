"""Whether a device draws what it should: networks beside diffusers', and a picture beside itself.

    python -m bench correctness [--workload sd15|sdxl]

For each model, with random weights at the published size: the UNet, the decoder and the text
encoders beside those of diffusers and transformers with the same files on the same device; what
the worker really runs (graphs, our kernels, the attention that was chosen) beside plain PyTorch;
pictures drawn alone and in a crowd, bit by bit; and what eight bits change, where there are any.
The exit status is 1 if a check fails. --smoke does it with tiny models, on a CPU too.
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

# ‖ours − theirs‖ / ‖theirs‖. Two orders of additions in half precision differ by some 1e-3 through
# the depth of these networks; a wrong operator by more than a tenth.
TOLERANCES = {torch.float16: 2e-2, torch.float32: 1e-3}
ROWS = 3
SAMPLERS = ("dpmpp_2m", "euler", "ddim", "unipc", "euler_ancestral")
STEPS = 3


@dataclass(frozen=True)
class Check:
    """`value` must be at most `bound`, or at least, if `least`."""

    model: str
    what: str
    value: float
    bound: float
    least: bool = False

    @property
    def passed(self) -> bool:
        return self.value >= self.bound if self.least else self.value <= self.bound


def checks(name: str, path: Path, side: int, device: torch.device) -> Iterator[Check]:
    """All checks of the model in `path`, with pictures of `side` pixels."""
    model = load_model(str(path), device)
    tolerance = TOLERANCES[model.dtype]
    with torch.inference_mode():
        for what, error in (*_against_diffusers(model, path, side), *_text(model, path)):
            yield Check(name, f"{what}, beside diffusers", error, tolerance)
    inputs = _inputs(model, side, ROWS)
    expected = model.executors.denoiser(*inputs)  # before other kernels are put into the layers
    ready = _ready(model, side)
    error = relative_error(ready.executors.denoiser(*inputs), expected)
    yield Check(name, "UNet as the worker runs it, beside eager", error, tolerance)
    latents, pictures = different_in_a_crowd(ready, side)
    yield Check(name, "latents that a crowd changes", latents, 0)
    yield Check(name, "pictures that a crowd changes", pictures, 0)
    if fp8.available(device):
        eight = autotune_cuda(model, (side, side), CudaOptions(fp8=True, rows=4))
        if "fp8" in eight.executors.name:
            decibels = compare(model, eight, (side, side))
            yield Check(name, "fp8 beside half precision, dB", decibels, REQUIRED_DB, least=True)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Infinite where something is not a number."""
    difference = (ours.double() - theirs.double()).norm() / theirs.double().norm()
    return float(difference) if difference.isfinite() else float("inf")


def _ready(model: LatentDiffusion, side: int) -> LatentDiffusion:
    """As a worker on a GPU runs it; without one, as it is."""
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
    told = AddedConditioning.of(model.unet.config, added) or AddedConditioning()
    named = {"text_embeds": told.pooled, "time_ids": told.time_ids} if model.is_sdxl else None
    unet = load(diffusers.UNet2DConditionModel, "unet", model.dtype)
    theirs = unet(x, timestep, context, timestep_cond=told.guidance, added_cond_kwargs=named).sample
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


def different_in_a_crowd(model: LatentDiffusion, side: int) -> tuple[int, int]:
    """Of a few pictures of several kinds: how many latents and how many pictures are other ones
    when they are drawn together than when each is drawn alone."""
    crowd = [_trajectory(model, side, number) for number in range(len(SAMPLERS))]
    _draw(model, crowd)
    latents = pictures = 0
    for number, other in enumerate(crowd):
        alone = _trajectory(model, side, number)
        _draw(model, [alone])
        latents += not torch.equal(alone.x, other.x)
        both = model.decode(torch.stack([other.x, alone.x]))
        pictures += not torch.equal(both[0], model.decode(alone.x[None])[0])
    return latents, pictures


def _trajectory(model: LatentDiffusion, side: int, number: int) -> DenoisingState:
    recipe = SamplingParams(
        "the red cat",
        width=side,
        height=side,
        steps=STEPS,
        sampler=SAMPLERS[number],
        guidance_scale=1.0 if number == 1 else 5.0,
    )
    return model.start(recipe, [number])[0]


def _draw(model: LatentDiffusion, batch: list[DenoisingState]) -> None:
    while running := [t for t in batch if not t.done]:
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
        [table("Does it draw what it should?", columns, rows)],
        {"checks": [{**asdict(check), "passed": check.passed} for check in done]},
    )
    return 0 if all(check.passed for check in done) else 1


if __name__ == "__main__":
    sys.exit(main())
