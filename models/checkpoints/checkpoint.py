"""Reading and writing of models in the diffusers layout.

Only safetensors files are opened: they hold numbers and cannot run code. Networks are built on
the meta device (no memory, no initialisation) and then get the file's tensors. Loading is strict:
an error names every key that is missing, unexpected or of another shape, and nothing is loaded.

    folder/model_index.json          pipeline and components
    folder/unet/config.json          + diffusion_pytorch_model[.fp16].safetensors, or its shards
    folder/vae/…, text_encoder/… (model[.fp16].safetensors), tokenizer/…, scheduler/…
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoints.detect.single_file import is_single_file, single_file_folder
from models.checkpoints.errors import (
    CheckpointError,
    CheckpointMismatch,
    CheckpointMissing,
    UnsupportedConfig,
)
from models.checkpoints.files import (
    is_last_step,
    os_errors_of,
    read_json,
    user_path,
    weight_files,
)
from models.checkpoints.hub import Download, fetch, is_hub_id
from models.checkpoints.key_plan import Shape
from models.checkpoints.meta import meta_device
from models.checkpoints.weights import Weights

__all__ = [
    "CheckpointError",
    "CheckpointMismatch",
    "CheckpointMissing",
    "build_on_meta",
    "differences",
    "load_component",
    "read_json",
    "resolve",
    "save_component",
]

M = TypeVar("M", bound=nn.Module)


def resolve(path_or_id: str, download: Download = fetch) -> Path:
    """Return the folder of a model given as a folder, a single file or a hub id (`owner/name`).

    download: fetches the files of a hub id to the Hugging Face cache; `partial(fetch, half=True)`
    prefers half precision. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE apply.

    Raises CheckpointMissing and other CheckpointErrors.
    """
    with os_errors_of(path_or_id):
        path = user_path(path_or_id)
        if path.is_dir():
            return path
        if is_single_file(path):
            return single_file_folder(path)
    if not is_hub_id(path_or_id):
        raise CheckpointMissing(
            f"{path_or_id!r} is neither a folder, nor a .safetensors file, "
            "nor a hub id (owner/name)"
        )
    return download(path_or_id)


def load_component(
    folder: Path,
    build: Callable[[dict[str, Any]], M],
    dtype: torch.dtype,
    device: torch.device,
    ema: bool | None = None,
) -> M:
    """Load the network of `folder`/config.json: `build(config)` with the folder's weights.

    ema: True for weights that were averaged over the training, False for those of its last step;
    None for the averaged ones where there is a choice. On the meta device it is built without
    weights, whose files may be missing.

    Raises CheckpointError and its subclasses.
    """
    module = build_on_meta(folder / "config.json", build)
    if device.type == "meta":
        return module.eval().requires_grad_(False)
    half = dtype in (torch.float16, torch.bfloat16)
    with os_errors_of(folder):
        files = weight_files(folder, half=half, ema=ema)
        chosen = None if ema is False and is_last_step(files[0].name) else ema
        weights = Weights.open(folder.name, files, device, chosen)
        assign_strictly(module, weights, dtype)
    return module.eval().requires_grad_(False)


def build_on_meta(config_file: Path, build: Callable[[dict[str, Any]], M]) -> M:
    """Return the network of a config.json, on the meta device, which takes no memory.

    Raises CheckpointMissing, and UnsupportedConfig for values of which no network can be built.
    """
    config = read_json(config_file)
    try:
        with meta_device():
            return build(config)
    except CheckpointError as error:
        raise type(error)(f"{config_file}: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnsupportedConfig(
            f"{config_file}: no network can be built of it: {reason}"
        ) from error


def assign_strictly(module: nn.Module, weights: Weights, dtype: torch.dtype) -> None:
    """Assign `weights` to the parameters of `module`, in `dtype`.

    Only one tensor of the file at a time is in memory in addition to the network.

    Raises CheckpointMismatch, and then assigns none.
    """
    expected = {name: tuple(p.shape) for name, p in module.state_dict().items()}
    wrong = differences(expected, weights.shapes)
    if any(wrong):
        raise CheckpointMismatch(weights.source, *wrong)
    parameters = {name: _arranged(weights.tensor(name).to(dtype)) for name in expected}
    module.load_state_dict(parameters, assign=True)


def differences(
    expected: Mapping[str, Shape], found: Mapping[str, Shape]
) -> tuple[list[str], list[str], list[str]]:
    """Return the names of the missing, unexpected and misshapen parameters."""
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = [
        f"{name} is {found[name]}, expected {shape}"
        for name, shape in sorted(expected.items())
        if name in found and found[name] != shape
    ]
    return missing, unexpected, misshapen


def _arranged(tensor: Tensor) -> Tensor:
    """Return convolution weights channels-last: measured faster on CPU and on tensor cores."""
    if tensor.ndim == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor.contiguous()


def save_component(
    module: nn.Module, config: Mapping[str, Any], folder: Path, stem: str, dtype: torch.dtype
) -> None:
    """Write config.json and `stem`.safetensors in the layout that `load_component` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config), indent=2, sort_keys=True) + "\n")
    tensors = {n: t.detach().to("cpu", dtype).contiguous() for n, t in module.state_dict().items()}
    save_file(tensors, folder / f"{stem}.safetensors", metadata={"format": "pt"})
