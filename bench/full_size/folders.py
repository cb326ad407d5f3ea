"""Comparison of checkpoints in diffusers' layout with diffusers and transformers.

The reference builds each network with random weights and writes it in the published format.
Darkroom and the reference load the file, one after the other, and compute the same inputs.
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
SIDE = 32  # of the latents: the networks have full size, their inputs need not


@dataclass(frozen=True)
class Network:
    """Functions that build a network with its reference, load it with both, and run both."""

    reference: Callable[[], Any]
    ours: Callable[[Path], Any]
    theirs: Callable[[Path], Any]
    run_ours: Callable[[Any], list[Tensor]]
    run_theirs: Callable[[Any], list[Tensor]]


def network_of(config: dict[str, Any]) -> Network | None:
    """Return the network of a configuration, or None if its class is not supported."""
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

    cls = getattr(diffusers, kind)
    return lambda: cls.from_config(config), lambda path: cls.from_pretrained(path)


def _unet(config: dict[str, Any], kind: str) -> Network:
    reference, theirs = _diffusers(config, kind)
    published = UNetConfig.from_dict(config)
    x, t = random(1, published.in_channels, SIDE, SIDE), torch.tensor([500.0])
    width = published.cross_attention_dim
    context = None if kind == "UNet2DModel" or width is None else random(1, 77, width)
    ids = 0 if published.addition_embed_type is None else 6
    added: AddedConditioning | None = None
    added_kwargs: dict[str, Any] = {}
    if ids:
        whole, each = (
            published.projection_class_embeddings_input_dim or 0,
            published.addition_time_embed_dim or 1,
        )
        ids = 6 if (whole - 6 * each) % 1280 == 0 else 5  # the refiner has one fewer
        added = AddedConditioning(random(1, whole - ids * each), 100 * random(1, ids).abs())
        cond = {"text_embeds": added.pooled, "time_ids": added.time_ids}
        added_kwargs = {"added_cond_kwargs": cond}
    if published.num_class_embeds is not None:
        labels = torch.tensor([published.num_class_embeds // 3])
        added, added_kwargs = AddedConditioning(labels=labels.float()), {"class_labels": labels}

    def run_theirs(unet: Any) -> list[Tensor]:
        out = unet(x, t) if context is None else unet(x, t, context, **added_kwargs)
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
        moments = encoded.latent_dist.parameters if kind == "AutoencoderKL" else encoded.latents
        return [moments, stage.decode(z).sample]

    return Network(
        reference,
        lambda path: load_first_stage(path, torch.float32, CPU),
        theirs,
        lambda stage: [stage.moments(image), stage.decode(z)],
        run_theirs,
    )


def _text(config: dict[str, Any], kind: str) -> Network:
    import transformers

    cls: Any = getattr(transformers, kind)
    plain = {key: v for key, v in config.items() if key not in ("torch_dtype", "dtype")}
    length = config["max_position_embeddings"]
    ids = random_ids(config["vocab_size"], length)
    ids[0, -3:] = config["vocab_size"] - 1

    def run_ours(encoder: TextEncoder) -> list[Tensor]:
        out = encoder(ids)
        return [*out.hidden_states, out.last, out.pooled]

    def run_theirs(encoder: Any) -> list[Tensor]:
        out = encoder(ids, output_hidden_states=True)
        pooled = out.text_embeds if "text_embeds" in out else out.pooler_output
        return [*out.hidden_states, out.last_hidden_state, pooled]

    return Network(
        lambda: cls(transformers.CLIPTextConfig(**plain)),
        lambda path: load_component(
            path, lambda c: TextEncoder(TextEncoderConfig.from_dict(c)), torch.float32, CPU
        ),
        lambda path: cls.from_pretrained(path, dtype=torch.float32),
        run_ours,
        run_theirs,
    )


def _safety(config: dict[str, Any]) -> Network:
    import transformers
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    plain = {key: v for key, v in config.items() if key not in ("torch_dtype", "dtype")}
    image = random(1, 3, 224, 224)
    cls: Any = StableDiffusionSafetyChecker
    return Network(
        lambda: cls(transformers.CLIPConfig(**plain)),
        lambda path: load_component(
            path, lambda c: SafetyChecker(VisionConfig.from_dict(c)), torch.float32, CPU
        ),
        lambda path: cls.from_pretrained(path, dtype=torch.float32),
        lambda checker: [checker(image)],
        lambda checker: [checker.visual_projection(checker.vision_model(image)[1])],
    )


def compare_network(network: Network, path: Path) -> tuple[int, float]:
    """Return the number of parameters and the relative error of the worst output."""
    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        built = network.reference().eval()
        parameters = sum(p.numel() for p in built.parameters())
        for parameter in built.parameters():
            if not parameter.any():  # a ControlNet's zero convolutions would have no effect
                parameter.normal_(std=0.02)
        built.save_pretrained(path)
        del built
        gc.collect()
        mine = outputs(lambda: network.ours(path).eval(), network.run_ours)
        reference = outputs(lambda: network.theirs(path).eval(), network.run_theirs)
    return parameters, worst(mine, reference)


def compare_folder(folder: Path, scratch: Path) -> Iterator[tuple[str, int, float]]:
    """Yield part, parameters and error of each network whose configuration is in `folder`."""
    for part in PARTS:
        file = folder / part / "config.json"
        if not file.is_file():
            continue
        network = network_of(json.loads(file.read_text("utf-8")))
        if network is None:
            print(f"{folder.name}/{part}: class is not supported", file=sys.stderr)
            continue
        path = scratch / folder.name / part
        yield part, *compare_network(network, path)
        shutil.rmtree(path)
