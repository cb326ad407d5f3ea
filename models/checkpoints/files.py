"""The files of one component in the diffusers layout: small JSON, and weights in one or more files.

All functions raise CheckpointError or one of its subclasses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.checkpoints.errors import CheckpointError, CheckpointMissing, Malformed

SAFE = (".safetensors",)
STEMS = ("diffusion_pytorch_model", "model")
_MAX_JSON = 16 << 20


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file at `path`, of 16 MiB at most."""
    try:
        if path.stat().st_size > _MAX_JSON:
            raise Malformed(f"{path} has {path.stat().st_size} bytes; {_MAX_JSON} are the most")
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointMissing(f"{path} is missing") from error
    except OSError as error:
        raise CheckpointMissing(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return data


def weight_files(folder: Path, *, half: bool) -> list[Path]:
    """Return the safetensors files of a component: one, or the shards that its index names.

    half: prefer the fp16 variant to the full one; otherwise the reverse.
    """
    variants = (".fp16", "") if half else ("", ".fp16")
    wanted = [f"{stem}{variant}.safetensors" for variant in variants for stem in STEMS]
    for variant in variants:
        for stem in STEMS:
            single = folder / f"{stem}{variant}.safetensors"
            if single.is_file():
                return [single]
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                return shards(index)
    raise CheckpointMissing(f"{folder} has no weights: looked for {', '.join(wanted)}")


def shards(index: Path) -> list[Path]:
    """Return the files that a `*.index.json` names, all in its own folder."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise Malformed(f"{index} has no weight_map")
    names = sorted({name if isinstance(name, str) else repr(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(index_suffix(index)):
            raise Malformed(
                f"{index} names {name!r}: shards are files in the same folder, nothing else"
            )
        if not (index.parent / name).is_file():
            raise CheckpointMissing(f"{index} names {name}, which is missing")
    return [index.parent / name for name in names]


def index_suffix(index: Path) -> str:
    """Return the suffix of an index's shards: `.safetensors` of `model.safetensors.index.json`."""
    return "." + index.name.split(".index")[0].rsplit(".", 1)[-1]
