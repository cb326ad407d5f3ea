"""Checkpoints in CompVis' own format, added as `darkroom models add` does, beside CompVis' code."""

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
    """Where its configuration is published. `averaged`: whether its file holds averaged weights, if
    not as the configuration says, which is that for drawing."""

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
class Ours:
    """How a network of ours is loaded from the folder of a model, and computes the same."""

    load: Callable[[Path], Any]
    run: Callable[..., list[Tensor]]


def _component(part: str, build: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    return lambda folder: load_component(folder / part, build, torch.float32, CPU)


def _first_stage(stage: Any, image: Tensor, z: Tensor) -> list[Tensor]:
    return [stage.moments(image), stage.decode(z / stage.config.scaling_factor)]


def _schedule(folder: Path) -> NoiseSchedule:
    return NoiseSchedule.from_config(read_json(folder / "scheduler" / "scheduler_config.json"))


OURS = {
    "unet": Ours(
        _component("unet", lambda c: UNet(UNetConfig.from_dict(c))),
        lambda unet, x, time, context: [unet(x, time, context)],
    ),
    "first_stage": Ours(
        lambda folder: load_first_stage(first_stage_folder(folder), torch.float32, CPU),
        _first_stage,
    ),
    "bert": Ours(
        _component("bert", lambda c: BertEncoder(BertConfig.from_dict(c))),
        lambda encoder, ids: [encoder(ids)],
    ),
    "text_encoder": Ours(
        _component("text_encoder", lambda c: TextEncoder(TextEncoderConfig.from_dict(c))),
        lambda encoder, ids: [encoder(ids).last],
    ),
    "class_embedder": Ours(
        _component("class_embedder", lambda c: ClassEmbedder(ClassEmbedderConfig.from_dict(c))),
        lambda embedder, classes: [embedder(classes)],
    ),
    "rescaler": Ours(
        _component("rescaler", lambda c: SpatialRescaler(SpatialRescalerConfig.from_dict(c))),
        lambda rescaler, maps: [rescaler(maps)],
    ),
    "scheduler": Ours(
        _schedule, lambda schedule: [torch.tensor(schedule.alphas_cumprod)]
    ),
}  # fmt: skip


def original(configurations: Path, name: str) -> Original:
    """The checkpoint of that name with random weights, all its own."""
    checkpoint = CHECKPOINTS[name]
    file, clip = configurations / checkpoint.config, configurations / CLIP
    torch.manual_seed(zlib.crc32(name.encode()))
    return built(
        yaml.safe_load(file.read_text("utf-8"))["model"]["params"],
        checkpoint.averaged,
        json.loads(clip.read_text("utf-8")) if clip.is_file() else None,
    )


def built(params: Mapping[str, Any], averaged: bool | None = None, clip: Any = None) -> Original:
    """Quietly: the original code prints what it makes."""
    with contextlib.redirect_stdout(io.StringIO()):
        return Original(params, averaged, clip)


def written(made: Original, path: Path) -> dict[str, Computed]:
    """What its networks compute, of which nothing stays in memory if nothing else holds them."""
    made.stir()
    computed = made.compute()
    made.save(path)
    return computed


def compared(
    computed: Mapping[str, Computed], path: Path, scratch: Path
) -> Iterator[tuple[str, int, float]]:
    """Part, parameters and difference of each network of the file at `path`, which is removed."""
    gc.collect()
    added = install(str(path), ModelStore(scratch / "home"), tokenizer=str(_vocabulary(scratch)))
    path.unlink()
    for part, reference in computed.items():
        yield (
            part,
            reference.parameters,
            worst(_mine(part, added.path, reference), reference.outputs),
        )
    shutil.rmtree(added.path)


@torch.inference_mode()
def _mine(part: str, folder: Path, reference: Computed) -> list[Tensor]:
    ours = OURS[part]
    return outputs(lambda: ours.load(folder), lambda network: ours.run(network, *reference.shown))


def _vocabulary(scratch: Path) -> Path:
    """What the file of a model that reads words does not hold, and no network here sees."""
    folder = scratch / "vocabulary"
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", "utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', "utf-8")
    return folder
