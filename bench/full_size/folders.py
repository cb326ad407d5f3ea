"""Checkpoints in the layout of diffusers: each network beside that of diffusers or transformers.

Each is built with random weights by the reference, which writes it in the published format; we load
the file and so does the reference, one after the other, and both compute the same inputs.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.full_size.finding import CPU, outputs, random, random_ids, worst
from models.autoencoders.registry import load_first_stage
from models.checkpoints.checkpoint import load_component
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.controlnet import ControlNet, ControlNetConfig
from models.networks.safety_checker import SafetyChecker, VisionConfig
from models.networks.text_encoder import TextEncoder
from models.networks.unet import AddedConditioning, UNet

PARTS = ("unet", "vae", "vqvae", "text_encoder", "text_encoder_2", "safety_checker", ".")
SIDE = 32  # of the latents; the networks are whole, their inputs need not be


@dataclass(frozen=True)
class Network:
    """How one kind is built by its reference, loaded by us, and computed by both."""

    reference: Callable[[], Any]
    ours: Callable[[Path], Any]
    theirs: Callable[[Path], Any]
    run_ours: Callable[[Any], list[Tensor]]
    run_theirs: Callable[[Any], list[Tensor]]


def network_of(config: dict[str, Any]) -> Network | None:
    """By what the configuration calls itself; None if it is of no kind that we load."""
    kind = config.get("_class_name") or (config.get("architectures") or [""])[0]
    if kind in ("UNet2DConditionModel", "UNet2DModel"):
        return _unet(config, kind)
    if kind in ("AutoencoderKL", "VQModel"):
        return _first_stage(config, kind)
    if kind in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        return _text(config, kind)
    if kind == "StableDiffusionSafetyChecker":
        return _safety(config)
    return _controlnet(config) if kind == "ControlNetModel" else None


def _diffusers(
    config: dict[str, Any], kind: str
) -> tuple[Callable[[], Any], Callable[[Path], Any]]:
    import diffusers

    built = getattr(diffusers, kind)
    return lambda: built.from_config(config), lambda path: built.from_pretrained(path)


def _unet(config: dict[str, Any], kind: str) -> Network:
    reference, theirs = _diffusers(config, kind)
    published = UNetConfig.from_dict(config)
    x, t = random(1, published.in_channels, SIDE, SIDE), torch.tensor([500.0])
    width = published.cross_attention_dim
    context = None if kind == "UNet2DModel" or width is None else random(1, 77, width)
    ids = 0 if published.addition_embed_type is None else 6
    added, told = None, {}
    if ids:
        whole, each = (
            published.projection_class_embeddings_input_dim or 0,
            published.addition_time_embed_dim or 1,
        )
        ids = 6 if (whole - 6 * each) % 1280 == 0 else 5  # the refiner is told one fewer
        added = AddedConditioning(random(1, whole - ids * each), 100 * random(1, ids).abs())
        told = {"added_cond_kwargs": {"text_embeds": added.pooled, "time_ids": added.time_ids}}

    def run_theirs(unet: Any) -> list[Tensor]:
        out = unet(x, t) if context is None else unet(x, t, context, **told)
        return [out.sample]

    return Network(
        reference,
        lambda path: load_component(
            path, lambda c: UNet(UNetConfig.from_dict(c)), torch.float32, CPU
        ),
        theirs,
        lambda unet: [unet(x, t, context, added)],
        run_theirs,
    )


def _controlnet(config: dict[str, Any]) -> Network:
    reference, theirs = _diffusers(config, "ControlNetModel")
    x, t, context = random(1, 4, SIDE, SIDE), torch.tensor([500.0]), random(1, 77, 768)
    image = random(1, 3, 8 * SIDE, 8 * SIDE).sigmoid()

    def run_ours(net: ControlNet) -> list[Tensor]:
        residuals = net(x, t, context, net.embed(image))
        return [*residuals.skips, residuals.mid]

    def run_theirs(net: Any) -> list[Tensor]:
        down, middle = net(x, t, context, image, return_dict=False)
        return [*down, middle]

    return Network(
        reference,
        lambda path: load_component(
            path, lambda c: ControlNet(ControlNetConfig.from_dict(c)), torch.float32, CPU
        ),
        theirs,
        run_ours,
        run_theirs,
    )


def _first_stage(config: dict[str, Any], kind: str) -> Network:
    reference, theirs = _diffusers(config, kind)
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    z = random(1, config["latent_channels"], SIDE, SIDE)
    image = random(1, config["in_channels"], SIDE * factor, SIDE * factor)

    def run_theirs(stage: Any) -> list[Tensor]:
        encoded = stage.encode(image)
        told = encoded.latent_dist.parameters if kind == "AutoencoderKL" else encoded.latents
        return [told, stage.decode(z).sample]

    return Network(
        reference,
        lambda path: load_first_stage(path, torch.float32, CPU),
        theirs,
        lambda stage: [stage.moments(image), stage.decode(z)],
        run_theirs,
    )


def _text(config: dict[str, Any], kind: str) -> Network:
    import transformers

    built: Any = getattr(transformers, kind)
    plain = {key: v for key, v in config.items() if key not in ("torch_dtype", "dtype")}
    length = config["max_position_embeddings"]
    ids = random_ids(config["vocab_size"], length)
    ids[0, -3:] = config["vocab_size"] - 1

    def run_ours(encoder: TextEncoder) -> list[Tensor]:
        told = encoder(ids)
        return [*told.hidden_states, told.last, told.pooled]

    def run_theirs(encoder: Any) -> list[Tensor]:
        told = encoder(ids, output_hidden_states=True)
        pooled = told.text_embeds if "text_embeds" in told else told.pooler_output
        return [*told.hidden_states, told.last_hidden_state, pooled]

    return Network(
        lambda: built(transformers.CLIPTextConfig(**plain)),
        lambda path: load_component(
            path, lambda c: TextEncoder(TextEncoderConfig.from_dict(c)), torch.float32, CPU
        ),
        lambda path: built.from_pretrained(path, dtype=torch.float32),
        run_ours,
        run_theirs,
    )


def _safety(config: dict[str, Any]) -> Network:
    import transformers
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    plain = {key: v for key, v in config.items() if key not in ("torch_dtype", "dtype")}
    image = random(1, 3, 224, 224)
    built: Any = StableDiffusionSafetyChecker
    return Network(
        lambda: built(transformers.CLIPConfig(**plain)),
        lambda path: load_component(
            path, lambda c: SafetyChecker(VisionConfig.from_dict(c)), torch.float32, CPU
        ),
        lambda path: built.from_pretrained(path, dtype=torch.float32),
        lambda checker: [checker(image)],
        lambda checker: [checker.visual_projection(checker.vision_model(image)[1])],
    )


def compare(network: Network, path: Path) -> tuple[int, float]:
    """Parameters, and the relative difference of the worst output."""
    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        built = network.reference().eval()
        parameters = sum(p.numel() for p in built.parameters())
        for parameter in built.parameters():
            if not parameter.any():  # as a ControlNet's last convolutions begin: they say nothing
                parameter.normal_(std=0.02)
        built.save_pretrained(path)
        del built
        gc.collect()
        mine = outputs(lambda: network.ours(path).eval(), network.run_ours)
        reference = outputs(lambda: network.theirs(path).eval(), network.run_theirs)
    return parameters, worst(mine, reference)


def compared(folder: Path, scratch: Path) -> Iterator[tuple[str, int, float]]:
    """Part, parameters and difference of each network whose configuration is in `folder`."""
    for part in PARTS:
        file = folder / part / "config.json"
        if not file.is_file():
            continue
        network = network_of(json.loads(file.read_text("utf-8")))
        if network is None:
            print(f"{folder.name}/{part}: of no kind that is compared", file=sys.stderr)
            continue
        path = scratch / folder.name / part
        yield part, *compare(network, path)
        shutil.rmtree(path)
