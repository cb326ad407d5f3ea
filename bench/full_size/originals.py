"""Comparison of checkpoints in CompVis' format, added as `darkroom models add` does, with CompVis'
code."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from bench.full_size.ckpt import Computed, Original
from bench.full_size.finding import CPU, outputs, worst
from models.autoencoders.registry import first_stage_folder, load_first_stage
from models.checkpoints.checkpoint import load_component, read_json
from models.checkpoints.convert.install import install
from models.checkpoints.convert.model_store import ModelStore
from models.networks.bert import BertConfig, BertEncoder
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.embedders import (
    ClassEmbedder,
    ClassEmbedderConfig,
    SpatialRescaler,
    SpatialRescalerConfig,
)
from models.networks.text_encoder import TextEncoder
from models.networks.unet import UNet
from models.samplers.noise_schedule import NoiseSchedule

CLIP = "CompVis__stable-diffusion-v1-4/text_encoder/config.json"
_PAPER = "CompVis__latent-diffusion"


@dataclass(frozen=True)
class Checkpoint:
    """A published configuration file.

    `averaged`: True if the checkpoint holds averaged weights, None to use the configuration, which
    is that for inference.
    """

    config: str
    averaged: bool | None = None


CHECKPOINTS = {
    **{
        name: Checkpoint(f"{_PAPER}/models/ldm/{name}.yaml")
        for name in (
            "celeba256", "ffhq256", "lsun_beds256", "lsun_churches256", "cin256", "text2img256",
            "layout2img-openimages256", "semantic_synthesis256", "semantic_synthesis512",
            "inpainting_big", "bsr_sr",
        )
    },
    "cin256-v2": Checkpoint(f"{_PAPER}/configs/cin256-v2.yaml"),
    "txt2img-1p4B-eval": Checkpoint(f"{_PAPER}/configs/txt2img-1p4B-eval.yaml"),
    "sd-v1-4-full-ema": Checkpoint(
        "CompVis__stable-diffusion-v-1-4-original/v1-inference.yaml", averaged=True
    ),
}  # fmt: skip


@dataclass(frozen=True)
class OurNetwork:
    """Functions that load a network of Darkroom from a model's folder and run it."""

    load: Callable[[Path], Any]
    run: Callable[..., list[Tensor]]


def _component(part: str, build: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    return lambda folder: load_component(folder / part, build, torch.float32, CPU)


def _first_stage(stage: Any, image: Tensor, z: Tensor) -> list[Tensor]:
    return [stage.moments(image), stage.decode(z / stage.config.scaling_factor)]


def _schedule(folder: Path) -> NoiseSchedule:
    return NoiseSchedule.from_config(read_json(folder / "scheduler" / "scheduler_config.json"))


OURS = {
    "unet": OurNetwork(
        _component("unet", lambda c: UNet(UNetConfig.from_dict(c))),
        lambda unet, x, time, context: [unet(x, time, context)],
    ),
    "first_stage": OurNetwork(
        lambda folder: load_first_stage(first_stage_folder(folder), torch.float32, CPU),
        _first_stage,
    ),
    "bert": OurNetwork(
        _component("bert", lambda c: BertEncoder(BertConfig.from_dict(c))),
        lambda encoder, ids: [encoder(ids)],
    ),
    "text_encoder": OurNetwork(
        _component("text_encoder", lambda c: TextEncoder(TextEncoderConfig.from_dict(c))),
        lambda encoder, ids: [encoder(ids).last],
    ),
    "class_embedder": OurNetwork(
        _component("class_embedder", lambda c: ClassEmbedder(ClassEmbedderConfig.from_dict(c))),
        lambda embedder, classes: [embedder(classes)],
    ),
    "rescaler": OurNetwork(
        _component("rescaler", lambda c: SpatialRescaler(SpatialRescalerConfig.from_dict(c))),
        lambda rescaler, maps: [rescaler(maps)],
    ),
    "scheduler": OurNetwork(
        _schedule, lambda schedule: [torch.tensor(schedule.alphas_cumprod)]
    ),
}  # fmt: skip


def published(configurations: Path, name: str) -> Original:
    """Build the published checkpoint `name` with random weights that depend on the name."""
    checkpoint = CHECKPOINTS[name]
    file, clip = configurations / checkpoint.config, configurations / CLIP
    torch.manual_seed(zlib.crc32(name.encode()))
    return build(
        yaml.safe_load(file.read_text("utf-8"))["model"]["params"],
        checkpoint.averaged,
        json.loads(clip.read_text("utf-8")) if clip.is_file() else None,
    )


def build(params: Mapping[str, Any], averaged: bool | None = None, clip: Any = None) -> Original:
    """Build a checkpoint, without the output that the original code prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return Original(params, averaged, clip)


def write_checkpoint(original: Original, path: Path) -> dict[str, Computed]:
    """Write the file and return the outputs of its networks, which keep no network in memory."""
    original.randomize_constants()
    computed = original.compute()
    original.save(path)
    return computed


def compare_checkpoint(
    computed: Mapping[str, Computed], path: Path, scratch: Path
) -> Iterator[tuple[str, int, float]]:
    """Yield part, parameters and error of each network of the file at `path`; remove the file."""
    gc.collect()
    added = install(str(path), ModelStore(scratch / "home"), tokenizer=str(_vocabulary(scratch)))
    path.unlink()
    for part, reference in computed.items():
        yield (
            part,
            reference.parameters,
            worst(_our_outputs(part, added.path, reference), reference.outputs),
        )
    shutil.rmtree(added.path)


@torch.inference_mode()
def _our_outputs(part: str, folder: Path, reference: Computed) -> list[Tensor]:
    ours = OURS[part]
    return outputs(lambda: ours.load(folder), lambda network: ours.run(network, *reference.inputs))


def _vocabulary(scratch: Path) -> Path:
    """Write a vocabulary, which `add` needs for text encoders; no network here uses it."""
    folder = scratch / "vocabulary"
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", "utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', "utf-8")
    return folder
