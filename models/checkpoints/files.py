"""The files of one component in the diffusers layout: small JSON, and weights in one or more files.

All functions raise CheckpointError or one of its subclasses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from os.path import isfile
from pathlib import Path
from typing import Any

from models.checkpoints.errors import CheckpointError, CheckpointMissing, Malformed
from models.checkpoints.names import by_name

SAFE = (".safetensors",)
STEMS = ("diffusion_pytorch_model", "model")
_LAST_STEP = ".non_ema"
_OTHER_STEMS = ("pytorch_model", "model_state")  # of pickles and of Paddle

# What PEFT's `save_pretrained` writes, for LoRAs and other adapters; diffusers has the
# configuration in the metadata of the safetensors file.
PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
PEFT_METADATA = "lora_adapter_metadata"

_MAX_JSON = 16 << 20


@contextmanager
def os_errors_of(source: object) -> Iterator[None]:
    """Raise errors of the operating system as CheckpointMissing, with the source's name.

    They are of folders that cannot be read, of links in a circle, of names that are too long.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointMissing(f"{error.filename or source} is missing") from error
    except OSError as error:
        raise CheckpointMissing(f"{source} cannot be read: {error.strerror or error}") from error


def user_path(path: str) -> Path:
    """Return a path, with a user's home in place of a leading `~`. Raises CheckpointMissing."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise CheckpointMissing(f"{path!r} is in the home of an unknown user") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file at `path`, of 16 MiB at most."""
    try:
        with os_errors_of(path):
            if path.stat().st_size > _MAX_JSON:
                raise Malformed(f"{path} has {path.stat().st_size} bytes; {_MAX_JSON} are the most")
            data = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return data


def weight_files(folder: Path, *, half: bool, ema: bool | None = None) -> list[Path]:
    """Return the safetensors files of a component: one, or the shards that its index names.

    half: prefer the fp16 variant to the full one; otherwise the reverse. ema False: prefer the
    weights of the last training step.
    """
    names = {path.name for path in folder.glob("*.*") if path.is_file()}
    chosen = component_files(names, half=half, suffixes=SAFE, stems=STEMS, ema=ema)
    if not chosen:
        wanted = [f"{stem}{variant}{SAFE[0]}" for variant in _variants(half) for stem in STEMS]
        raise CheckpointMissing(f"{folder} has no weights: looked for {', '.join(wanted)}")
    first = folder / chosen[0]
    return shards(first) if first.suffix == ".json" else [first]


def component_files(
    names: Collection[str],
    *,
    half: bool,
    suffixes: Iterable[str],
    stems: Sequence[str] = (*STEMS, *_OTHER_STEMS),
    ema: bool | None = None,
) -> list[str]:
    """Return the files of one variant of a component: a single one, or an index and its shards.

    names: the files in the component's folder. half: prefer the fp16 variant. ema False: prefer the
    weights of the last training step, which some repositories hold beside the averaged ones.
    """
    variants = (_LAST_STEP, *_variants(half)) if ema is False else _variants(half)
    for suffix, variant, stem in product(suffixes, variants, stems):
        single = f"{stem}{variant}{suffix}"
        if single in names:
            return [single]
        index = f"{stem}{suffix}.index{variant}.json"
        if index in names:
            shard = re.compile(_shard(stem, variant, suffix))
            return [index, *sorted(name for name in names if shard.fullmatch(name))]
    return []


def is_last_step(name: str) -> bool:
    """Return True for the name of a file with the weights of the last training step."""
    return f"{_LAST_STEP}." in name or f"{_LAST_STEP}-" in name


def _variants(half: bool) -> tuple[str, str]:
    return (".fp16", "") if half else ("", ".fp16")


def _shard(stem: str, variant: str, suffix: str) -> str:
    number, variant, suffix = r"-\d+-of-\d+", re.escape(variant), re.escape(suffix)
    return rf"{stem}(?:{variant}{number}|{number}{variant}){suffix}"


def shards(index: Path) -> list[Path]:
    """Return the files that a `*.index.json` names, all in its own folder."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise Malformed(f"{index} has no weight_map")
    names = sorted({name if isinstance(name, str) else repr(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(SAFE):
            raise Malformed(
                f"{index} names {name!r}: shards are files in the same folder, nothing else"
            )
        if not (index.parent / name).is_file():
            raise CheckpointMissing(f"{index} names {name}, which is missing")
    return [index.parent / name for name in names]


def installed_weights(folder: Path) -> dict[str, Path]:
    """Return the weights file of each complete network in `folder`, by name, sorted.

    folder/<name>/config.json, diffusion_pytorch_model.safetensors
    """
    found = {
        weights.parent.name: weights
        for weights in sorted(folder.glob("*/*.safetensors"))
        if isfile(weights) and isfile(weights.parent / "config.json")
    }
    return by_name(found.items())
