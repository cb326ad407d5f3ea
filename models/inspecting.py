"""What a checkpoint is, told by its headers and configuration files: no weight is read.

Every network is built on the meta device, without memory, and its parameters are compared with
those that the files' headers announce, in whatever spelling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.anatomy import Anatomy, Component
from models.bert import BertConfig, BertEncoder
from models.checkpoint import CheckpointError, differences, read_json
from models.config import TextEncoderConfig, UNetConfig
from models.embedders import (
    ClassEmbedder,
    ClassEmbedderConfig,
    SpatialRescaler,
    SpatialRescalerConfig,
)
from models.first_stage import FirstStage
from models.first_stages import build_first_stage
from models.formats.families import family_of_network
from models.formats.headers import read_header
from models.formats.kinds import kind_of
from models.formats.parts import Shape, shapes_of
from models.formats.single_file import is_single_file, laid_out
from models.formats.spelling import component_plan
from models.formats.stored import LocalFiles, Stored, StoredFiles, hub_files
from models.kinds import KINDS
from models.loading import BUNDLED, load_model
from models.pipeline import LatentDiffusion
from models.text_encoder import TextEncoder
from models.unet import UNet

META = torch.device("meta")
PRECISIONS = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}

_BUILD: Mapping[str, Callable[[dict[str, Any]], nn.Module]] = {
    "text_encoder": lambda c: TextEncoder(TextEncoderConfig.from_dict(c)),
    "text_encoder_2": lambda c: TextEncoder(TextEncoderConfig.from_dict(c)),
    "bert": lambda c: BertEncoder(BertConfig.from_dict(c)),
    "class_embedder": lambda c: ClassEmbedder(ClassEmbedderConfig.from_dict(c)),
    "rescaler": lambda c: SpatialRescaler(SpatialRescalerConfig.from_dict(c)),
    "vae": build_first_stage,
    "vqvae": build_first_stage,
    "unet": lambda c: UNet(UNetConfig.from_dict(c)),
}


def inspect(path_or_id: str) -> Anatomy:
    """What is to be said of a folder, a safetensors file, a hub id or "bundled".

    Of a hub's model the small files are fetched, and of the weights the headers only. Raises
    CheckpointError for what is no checkpoint at all.
    """
    path = BUNDLED if path_or_id == "bundled" else Path(path_or_id).expanduser()
    if path.is_dir():
        return _folder(LocalFiles(path))
    if is_single_file(path):
        kind = kind_of(read_header(path).shapes)
        return _folder(LocalFiles(laid_out(path))) if kind == "model" else Anatomy(f"a {kind}")
    if path.exists():
        raise CheckpointError(
            f"{path} is no safetensors file, and is not opened: `darkroom models add {path}` "
            "converts it"
        )
    return _folder(hub_files(path_or_id))


def _folder(files: StoredFiles) -> Anatomy:
    index = read_json(files.folder / "model_index.json")
    pipeline = str(index.get("_class_name"))
    kind = KINDS.get(pipeline)
    if kind is None:
        unknown = f"pipeline {pipeline!r} is not supported; have {', '.join(KINDS)}"
        return Anatomy("an unknown model", files.folder, pipeline, problems=(unknown,))
    parts = tuple(_component(files, name) for name in _BUILD if any(index.get(name) or ()))
    problems = [f"{name} is not named in model_index.json" for name in _absent(index)]
    described: dict[str, Any] = {}
    try:
        described = _described(load_model(str(files.folder), META, torch.float32))
    except (CheckpointError, ValueError) as error:
        problems.append(str(error))
    told = [problem for part in parts for problem in part.problems]
    others = tuple(problem for problem in problems if problem not in told)
    names: dict[str, Any] = {"title": pipeline, "pipeline": pipeline, "folder": files.folder}
    return Anatomy(**names | described, tasks=kind.tasks, components=parts, problems=others)


def _absent(index: Mapping[str, Any]) -> list[str]:
    """What every model has, and this one does not name."""
    first_stages = ("vae", "vqvae")
    wanted = {"unet": ["unet"], "vae": first_stages}
    return [name for name, any_of in wanted.items() if not any(map(index.get, any_of))]


def _component(files: StoredFiles, name: str) -> Component:
    """The network in the folder `name`, held against what its configuration says."""
    parameters, expected = 0, None
    problems: list[str] = []
    try:
        with META:
            network = _BUILD[name](read_json(files.folder / name / "config.json"))
        state = network.state_dict()
        parameters = sum(tensor.numel() for tensor in state.values())
        expected = {key: tuple(tensor.shape) for key, tensor in state.items()}
    except (CheckpointError, ValueError) as error:
        problems.append(f"{name}: {error}")
    stored: Stored = {}
    try:
        stored = files.stored(name)
        if expected is not None:
            problems += _differences(name, expected, stored)
    except CheckpointError as error:
        problems.append(f"{name}: {error}")
    counted = Counter(PRECISIONS.get(dtype, dtype) for dtype, _ in stored.values())
    precisions = tuple(precision for precision, _ in counted.most_common())
    return Component(name, parameters, precisions, tuple(problems))


def _differences(name: str, expected: Mapping[str, Shape], stored: Stored) -> Iterator[str]:
    keys = {key: shape for key, (_, shape) in stored.items()}
    found = shapes_of(component_plan(name, keys), keys)
    kinds = ("missing", "unexpected", "misshapen")
    for kind, wrong in zip(kinds, differences(expected, found), strict=True):
        yield from (f"{name}: {kind}: {key}" for key in wrong)


def _described(skeleton: LatentDiffusion) -> dict[str, Any]:
    """What its networks tell, without weights."""
    factor = skeleton.autoencoder.config.factor
    return {
        "title": _title(skeleton),
        "side": skeleton.unet.config.sample_size * factor,
        "prediction": skeleton.noise_schedule.prediction_type,
        "weights": {
            name: weights_bytes(skeleton, dtype)
            for name, dtype in (("fp16", torch.float16), ("fp32", torch.float32))
        },
    }


def _title(skeleton: LatentDiffusion) -> str:
    """The name of its family, or that of its pipeline where the UNet is of none's size."""
    shapes = {name: tuple(t.shape) for name, t in skeleton.unet.state_dict().items()}
    try:
        return family_of_network(shapes).title
    except CheckpointError:
        return str(read_json(skeleton.folder / "model_index.json")["_class_name"])


def weights_bytes(model: LatentDiffusion, dtype: torch.dtype) -> int:
    """The bytes that the weights of all networks take in `dtype`; a first stage that overflows in
    half precision takes as many as in single."""
    return sum(_bytes(network, dtype) for network in networks(model))


def networks(part: object) -> Iterator[nn.Module]:
    """Every network that a model is made of, each once."""
    if isinstance(part, nn.Module):
        yield part
    elif isinstance(part, tuple):
        for inner in part:
            yield from networks(inner)
    elif is_dataclass(part) and not isinstance(part, type):
        for item in fields(part):
            if item.name != "executors":  # they run networks that are listed already
                yield from networks(getattr(part, item.name))


def _bytes(network: nn.Module, dtype: torch.dtype) -> int:
    upcast = isinstance(network, FirstStage) and getattr(network.config, "force_upcast", False)
    item = torch.float32.itemsize if upcast else dtype.itemsize
    return item * sum(tensor.numel() for tensor in network.state_dict().values())
