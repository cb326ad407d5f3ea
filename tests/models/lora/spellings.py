"""Random LoRAs of a tiny model, written in every spelling of published files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.lora.layers import Layer, Layers, Parameter
from models.lora.names import TEXT, TEXT_2, UNET
from models.lora.original_names import original_name
from models.networks.config import UNetConfig

Pairs = Mapping[Layer, tuple[Tensor, Tensor]]  # down and up
Vectors = Mapping[Parameter, Tensor]  # differences of biases and of the weights of norms

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")


def random_pairs(layers: Layers, chosen: Iterable[Layer], rank: int = 3, seed: int = 0) -> Pairs:
    """Return changes of about a tenth of the weights' size."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for layer in chosen:
        out, inside, *kernel = layers.shapes[layer]
        down = 0.2 * torch.randn(rank, inside, *kernel, generator=generator)
        up = 0.1 * torch.randn(out, rank, *(1 for _ in kernel), generator=generator)
        pairs[layer] = down, up
    return pairs


def attention_of(layers: Layers) -> list[Layer]:
    """Return every projection of attention, which the first trainers changed."""
    return [layer for layer in layers.shapes if layer[1].endswith(ATTENTION)]


def save(file: Path, tensors: Mapping[str, Tensor], **metadata: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: t.contiguous() for key, t in tensors.items()}, file, metadata or None)
    return file


def kohya(
    pairs: Pairs, alpha: float | None = None, *, two_encoders: bool = False
) -> dict[str, Tensor]:
    prefixes = {UNET: "lora_unet_", TEXT: "lora_te1_" if two_encoders else "lora_te_"}
    prefixes[TEXT_2] = "lora_te2_"
    tensors: dict[str, Tensor] = {}
    for (component, path), (down, up) in pairs.items():
        name = prefixes[component] + path.replace(".", "_")
        tensors |= _kohya_parts(name, down, up, alpha)
    return tensors


def kohya_original(
    pairs: Pairs, config: UNetConfig, alpha: float | None = None
) -> dict[str, Tensor]:
    """Return a UNet's LoRA by the names of the original code."""
    tensors: dict[str, Tensor] = {}
    for (_, path), (down, up) in pairs.items():
        name = f"lora_unet_{original_name(path, config)}".replace(".", "_")
        tensors |= _kohya_parts(name, down, up, alpha)
    return tensors


def comfy(pairs: Pairs, config: UNetConfig) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for (_, path), (down, up) in pairs.items():
        tensors |= _kohya_parts(f"diffusion_model.{original_name(path, config)}", down, up, None)
    return tensors


def comfy_saved(pairs: Pairs, vectors: Vectors, config: UNetConfig) -> dict[str, Tensor]:
    """Return the keys of ComfyUI's node "Extract and Save Lora" for any layers."""
    tensors: dict[str, Tensor] = {}
    for (component, path), (down, up) in pairs.items():
        tensors |= _kohya_parts(_comfy_name(component, path, config), down, up, None)
    for (component, parameter), difference in vectors.items():
        path, _, last = parameter.rpartition(".")
        suffix = "diff" if last == "weight" else "diff_b"
        tensors[f"{_comfy_name(component, path, config)}.{suffix}"] = difference
    return tensors


def _comfy_name(component: str, path: str, config: UNetConfig) -> str:
    if component == UNET:
        return f"diffusion_model.{original_name(path, config)}"
    return f"text_encoders.{'clip_l' if component == TEXT else 'clip_g'}.transformer.{path}"


def one_trainer(pairs: Pairs, config: UNetConfig) -> dict[str, Tensor]:
    """Return the keys of OneTrainer's own layout."""
    prefixes = {UNET: "unet", TEXT: "clip_l", TEXT_2: "clip_g"}
    tensors: dict[str, Tensor] = {}
    for (component, path), (down, up) in pairs.items():
        name = original_name(path, config) if component == UNET else path
        tensors |= _kohya_parts(f"{prefixes[component]}.{name}", down, up, None)
    return tensors


def prefixed(pairs: Pairs, prefix: str, separator: str = ".") -> dict[str, Tensor]:
    """Return the keys of one network by the paths of its layers after `prefix`, in PEFT's form."""
    tensors: dict[str, Tensor] = {}
    for (_, path), (down, up) in pairs.items():
        name = prefix + path.replace(".", separator)
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = down, up
    return tensors


def _kohya_parts(name: str, down: Tensor, up: Tensor, alpha: float | None) -> dict[str, Tensor]:
    alphas = {} if alpha is None else {f"{name}.alpha": torch.tensor(alpha)}
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, **alphas}


def diffusers(pairs: Pairs, *, text_model: bool = True) -> dict[str, Tensor]:
    """Return the keys of `save_lora_weights`; under transformers 5 without `text_model.`."""
    tensors: dict[str, Tensor] = {}
    for (component, path), (down, up) in pairs.items():
        name = f"{component}.{path if text_model else path.removeprefix('text_model.')}"
        middle = "lora" if component == UNET else "lora_linear_layer"
        tensors[f"{name}.{middle}.down.weight"], tensors[f"{name}.{middle}.up.weight"] = down, up
    return tensors


def processors(pairs: Pairs, *, prefix: bool = True) -> dict[str, Tensor]:
    """Return the keys of diffusers before 0.23, of attention; the first files have no prefix."""
    tensors: dict[str, Tensor] = {}
    for (component, path), (down, up) in pairs.items():
        attention, last = path.replace(".to_out.0", ".to_out").rsplit(".", 1)
        last = last if last.startswith("to_") else "to_" + last.removesuffix("_proj")
        middle = ".processor" if component == UNET else ""
        name = f"{component}." if prefix else ""
        name += f"{attention}{middle}.{last}_lora"
        tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"] = down, up
    return tensors


def peft(pairs: Pairs, *, bare: bool = False) -> dict[str, Tensor]:
    """Return the keys of diffusers today; `bare`: those that PEFT writes for one network."""
    tensors: dict[str, Tensor] = {}
    for (component, path), (down, up) in pairs.items():
        name = f"base_model.model.{path}" if bare else f"{component}.{path}"
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = down, up
    return tensors


def metadata(**of_components: Mapping[str, object]) -> dict[str, str]:
    """Return PEFT's configuration as diffusers writes it into the header."""
    entries = {f"{c}.{k}": v for c, config in of_components.items() for k, v in config.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(entries)}
