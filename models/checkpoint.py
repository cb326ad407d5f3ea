"""Reading and writing models in the published diffusers layout.

Only safetensors files are opened: they hold numbers and cannot run code. Networks are built on
the meta device (no memory, no initialisation) and given the file's tensors. Loading is strict:
every key that is missing, unexpected or of another shape is named, and nothing is loaded.

    folder/model_index.json          which pipeline, which components
    folder/unet/config.json          + diffusion_pytorch_model[.fp16].safetensors
    folder/vae/…, text_encoder/… (model[.fp16].safetensors), tokenizer/…, scheduler/…
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.key_maps import canonical_name

M = TypeVar("M", bound=nn.Module)
Download = Callable[[str, list[str]], Path]

_STEMS = ("diffusion_pytorch_model", "model")
_VARIANTS = {torch.float16: (".fp16", ""), torch.float32: ("", ".fp16")}


class CheckpointError(Exception):
    """A checkpoint cannot be loaded; the message says which part and why."""


class CheckpointMissing(CheckpointError):
    """A folder, file or hub repository is not there."""


@dataclass
class CheckpointMismatch(CheckpointError):
    """A file does not fit its network. Every offending key is named."""

    source: str
    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]

    def __str__(self) -> str:
        kinds = ("missing", "unexpected", "misshapen")
        parts = [f"{kind}: {', '.join(getattr(self, kind))}" for kind in kinds]
        found = [part for kind, part in zip(kinds, parts, strict=True) if getattr(self, kind)]
        return f"{self.source} does not fit its configuration; " + "; ".join(found)


def resolve(path_or_id: str, download: Download | None = None) -> Path:
    """The folder of a model given as a folder or as a hub id such as `owner/name`.

    Hub files go to the usual Hugging Face cache; HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE hold.
    """
    folder = Path(path_or_id).expanduser()
    if folder.is_dir():
        return folder
    if path_or_id.count("/") != 1 or path_or_id.startswith((".", "/", "~")):
        raise CheckpointMissing(f"{path_or_id!r} is neither a folder nor a hub id (owner/name)")
    return (download or _download_from_hub)(path_or_id, _HUB_PATTERNS)


# What a served model needs; the many other renderings in a repository stay where they are.
_HUB_PATTERNS = [
    "model_index.json",
    "scheduler/*.json",
    "tokenizer*/*",
    *(
        f"{part}/{name}"
        for part in ("unet", "vae", "text_encoder", "text_encoder_2")
        for name in ("config.json", *(f"{stem}.safetensors" for stem in _STEMS))
    ),
]


def _download_from_hub(repository: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointMissing(f"cannot fetch {repository!r} from the hub: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointMissing(f"{path} is missing") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    return data


def load_component(
    folder: Path, build: Callable[[dict[str, Any]], M], dtype: torch.dtype, device: torch.device
) -> M:
    """The network of `folder`/config.json, built by `build(config)`, with the folder's weights."""
    config = read_json(folder / "config.json")
    with torch.device("meta"):
        module = build(config)
    source = _weights_file(folder, dtype)
    assign_strictly(module, _canonical(load_file(source, device=str(device))), source.name, dtype)
    return module.eval().requires_grad_(False)


def _weights_file(folder: Path, dtype: torch.dtype) -> Path:
    variants = _VARIANTS.get(dtype, ("", ".fp16"))
    names = [f"{stem}{variant}.safetensors" for variant in variants for stem in _STEMS]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointMissing(f"{folder} has no weights: looked for {', '.join(names)}")


def _canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = ((canonical_name(name), tensor) for name, tensor in tensors.items())
    return {name: tensor for name, tensor in named if name is not None}


def assign_strictly(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, dtype: torch.dtype
) -> None:
    """Give `module` the `tensors` as its parameters, in `dtype`; all must fit, or none is used."""
    expected = {name: tuple(p.shape) for name, p in module.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshapen = [
        f"{name} is {found[name]}, expected {shape}"
        for name, shape in sorted(expected.items())
        if name in found and found[name] != shape
    ]
    if missing or unexpected or misshapen:
        raise CheckpointMismatch(source, missing, unexpected, misshapen)
    module.load_state_dict({n: _laid_out(t.to(dtype)) for n, t in tensors.items()}, assign=True)


def _laid_out(tensor: Tensor) -> Tensor:
    """Convolution weights channels-last: measured faster on CPU and on tensor cores."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def save_component(
    module: nn.Module, config: Mapping[str, Any], folder: Path, stem: str, dtype: torch.dtype
) -> None:
    """Write config.json and `stem`.safetensors in the layout that `load_component` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config), indent=2, sort_keys=True) + "\n")
    tensors = {n: t.detach().to("cpu", dtype).contiguous() for n, t in module.state_dict().items()}
    save_file(tensors, folder / f"{stem}.safetensors", metadata={"format": "pt"})
