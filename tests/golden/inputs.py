"""Input images and model files of the golden requests, made from formulas and a fixed generator.

The requests name images as `@scene`; the service reads the files of `write_models_home` from the
folder in `DARKROOM_MODELS_HOME`.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import ControlNetModel
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from models.checkpoints.meta import meta_device

MARK = "@"  # before the name of an image in a request
Array = NDArray[np.float32]

# The bundled model's UNet: attention blocks and their widths.
ATTENTION_BLOCKS = {"down_blocks.1": 128, "down_blocks.2": 256, "mid_block": 256}
TEXT_WIDTH = 256
RANK = 4
CONTROLNET = {
    "block_out_channels": (96, 128, 256),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
    "conditioning_embedding_out_channels": (16, 32, 64, 96),
}


def with_images(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` with the name of every image replaced by its PNG file in base64."""
    return {key: _with_images(value) for key, value in body.items()}


def _with_images(value: Any) -> Any:
    match value:
        case str() if value.startswith(MARK):
            return png(IMAGES[value.removeprefix(MARK)])
        case dict():
            return with_images(value)
        case list():
            return [_with_images(item) for item in value]
        case _:
            return value


def png(pixels: NDArray[np.uint8]) -> str:
    """Return `pixels`, (H, W) or (H, W, 3), as a PNG file in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def scene(width: int, height: int) -> NDArray[np.uint8]:
    """Return a red square on a two-way gradient, (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, 128 + 0 * x], axis=-1)
    pixels[height // 4 : height // 2, width // 4 : width // 2] = 220, 30, 40
    return pixels.astype(np.uint8)


def disc(side: int) -> NDArray[np.uint8]:
    """Return a white disc on black, (side, side)."""
    y, x = np.mgrid[:side, :side] - side // 2
    return np.where(x * x + y * y < (side // 3) ** 2, 255, 0).astype(np.uint8)


def half(width: int, height: int) -> NDArray[np.uint8]:
    """Return an image that is black on the left and white on the right, (H, W)."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, width // 2 :] = 255
    return pixels


def stripes(side: int) -> NDArray[np.uint8]:
    """Return diagonal white lines on black, (side, side, 3)."""
    y, x = np.mgrid[:side, :side]
    lines = np.where((x + y) % 11 < 3, 255, 0).astype(np.uint8)
    return np.stack([lines] * 3, axis=-1)


IMAGES = {
    "scene": scene(128, 128),
    "wide": scene(160, 80),
    "disc": disc(128),
    "half": half(160, 80),
    "stripes": stripes(128),
}


def write_models_home(folder: Path) -> None:
    """Write two LoRAs, a ControlNet and a textual inversion for the bundled model."""
    (folder / "loras").mkdir(parents=True)
    (folder / "embeddings").mkdir()
    save_file(peft_lora(1), folder / "loras/grain.safetensors")
    save_file(kohya_lora(2), folder / "loras/paint.safetensors")
    word = {"emb_params": noise(np.random.default_rng(3), (2, TEXT_WIDTH), 0.1)}
    save_file(word, folder / "embeddings/goldenword.safetensors")
    write_controlnet(folder / "controlnets/stripes", 4)


def noise(generator: np.random.Generator, shape: Sequence[int], scale: float) -> Array:
    """Return uniform values in [-scale, scale), from integers: the same on every machine."""
    integers = generator.integers(-(2**15), 2**15, shape, dtype=np.int32)
    return (integers.astype(np.float32) * np.float32(scale / 2**15)).astype(np.float32)


def peft_lora(seed: int) -> dict[str, Array]:
    """Return a LoRA of the UNet's attention, with the names that diffusers writes."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for block, width in ATTENTION_BLOCKS.items():
        for layer, inputs in attention_inputs(width).items():
            name = f"unet.{block}.attentions.0.transformer_blocks.0.{layer}"
            tensors[f"{name}.lora_A.weight"] = noise(generator, (RANK, inputs), 0.3)
            tensors[f"{name}.lora_B.weight"] = noise(generator, (width, RANK), 0.15)
    return tensors


def attention_inputs(width: int) -> dict[str, int]:
    """Return how many channels each projection of a transformer block reads."""
    inputs = {f"attn1.{name}": width for name in ("to_q", "to_k", "to_v", "to_out.0")}
    return inputs | {"attn2.to_q": width, "attn2.to_k": TEXT_WIDTH, "attn2.to_v": TEXT_WIDTH}


def kohya_lora(seed: int) -> dict[str, Array]:
    """Return a LoRA of the text encoder and one UNet block, with kohya's names and an alpha."""
    generator = np.random.default_rng(seed)
    layers = [
        f"lora_te_text_model_encoder_layers_{layer}_self_attn_{name}"
        for layer in range(3)
        for name in ("q_proj", "v_proj", "out_proj")
    ]
    block = "lora_unet_mid_block_attentions_0_transformer_blocks_0"
    layers += [f"{block}_attn2_{name}" for name in ("to_q", "to_k", "to_v", "to_out_0")]
    tensors = {}
    for name in layers:
        tensors[f"{name}.lora_down.weight"] = noise(generator, (RANK, TEXT_WIDTH), 0.3)
        tensors[f"{name}.lora_up.weight"] = noise(generator, (TEXT_WIDTH, RANK), 0.2)
        tensors[f"{name}.alpha"] = np.asarray(RANK / 2, np.float32)
    return tensors


def write_controlnet(folder: Path, seed: int) -> None:
    """Write a ControlNet for the bundled model in the layout of diffusers.

    Weights are uniform with the variance 1 / inputs, so that activations neither grow nor vanish.
    """
    generator = np.random.default_rng(seed)
    with meta_device():
        network = ControlNetModel(**CONTROLNET)
    tensors = {
        name: controlnet_tensor(generator, name, tuple(tensor.shape))
        for name, tensor in network.state_dict().items()
    }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    config = {"_class_name": "ControlNetModel", **network.config}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


def controlnet_tensor(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Return the weights of one layer; those of a norm are 1 and every bias is 0."""
    if name.endswith("bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    return noise(generator, shape, (3 / np.prod(shape[1:])) ** 0.5)
