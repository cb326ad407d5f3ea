"""What a checkpoint is, told by its headers and configuration files: no weight is read.

Every network is built on the meta device, without memory, and its parameters are compared with
those that the files' headers announce, in whatever spelling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.autoencoders.registry import build_first_stage
from models.checkpoints.checkpoint import CheckpointError, CheckpointMissing, differences, read_json
from models.checkpoints.detect.families import family_of_network
from models.checkpoints.detect.kinds import CLASS_KINDS, Kind, kind_of
from models.checkpoints.detect.single_file import is_single_file, laid_out
from models.checkpoints.detect.spelling import component_plan
from models.checkpoints.hub import is_hub_id
from models.checkpoints.parts import Shape, shapes_of
from models.checkpoints.readers.headers import read_header
from models.checkpoints.readers.stored import LocalFiles, Stored, StoredFiles, hub_files
from models.loading.checkpoint_report import Anatomy, Component
from models.loading.footprint import META, network_bytes, weights_bytes
from models.loading.kinds import KINDS
from models.loading.loader import BUNDLED, load_model
from models.lora.names import other_kind
from models.networks.bert import BertConfig, BertEncoder
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.controlnet import ControlNet, ControlNetConfig
from models.networks.embedders import (
    ClassEmbedder,
    ClassEmbedderConfig,
    SpatialRescaler,
    SpatialRescalerConfig,
)
from models.networks.safety_checker import SafetyChecker, VisionConfig, ships_safety_checker
from models.networks.text_encoder import TextEncoder
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion

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
    "safety_checker": lambda c: SafetyChecker(VisionConfig.from_dict(c)),
}
_BUILD_ALONE: Mapping[Kind, Callable[[dict[str, Any]], nn.Module]] = {
    "vae": build_first_stage,
    "controlnet": lambda c: ControlNet(ControlNetConfig.from_dict(c)),
    "unet": _BUILD["unet"],
}
_TITLES: Mapping[Kind, str] = {
    "lora": "a LoRA",
    "embedding": "a word learned by textual inversion",
    "controlnet": "a ControlNet",
    "vae": "a first stage",
    "unet": "a UNet",
}


def inspect(path_or_id: str) -> Anatomy:
    """What is to be said of a folder, a safetensors file, a hub id or "bundled": of a model, or of
    what goes with one.

    Of a hub's model the small files are fetched, and of the weights the headers only. Raises
    CheckpointError for what is no checkpoint at all.
    """
    path = BUNDLED if path_or_id == "bundled" else Path(path_or_id).expanduser()
    if path.is_dir():
        return _folder(LocalFiles(path))
    if is_single_file(path):
        return _file(path)
    if path.exists():
        raise CheckpointError(
            f"{path} is no safetensors file, and is not opened: `darkroom models add {path}` "
            "converts it"
        )
    if not is_hub_id(path_or_id):
        raise CheckpointMissing(
            f"{path_or_id!r} is neither a folder, a .safetensors file, a hub id (owner/name), nor "
            "the name of what was added"
        )
    return _folder(hub_files(path_or_id))


def _file(path: Path) -> Anatomy:
    shapes = read_header(path).shapes
    kind = kind_of(shapes)
    if kind == "lora":
        return Anatomy(_TITLES[kind], problems=tuple(_other_kinds(shapes)))
    if kind == "embedding":
        return Anatomy(_TITLES[kind])
    return _folder(LocalFiles(laid_out(path)))


def _other_kinds(keys: Collection[str]) -> Iterator[str]:
    """What of a LoRA's file is of another kind of adapter; whether it fits, each model tells."""
    for key in sorted(keys):
        if kind := other_kind(key):
            yield f"{kind} is not supported: {key}"


def _alone(kind: Kind, config: dict[str, Any], files: StoredFiles) -> Anatomy:
    """A network that is added on its own."""
    build = _BUILD_ALONE[kind]
    network, part = _network(kind, lambda: build(config), lambda: files.stored(""))
    weights = {}
    if network is not None:
        sizes = (("fp16", torch.float16), ("fp32", torch.float32))
        weights = {name: network_bytes(network, dtype) for name, dtype in sizes}
    pipeline = str(config["_class_name"])
    return Anatomy(_TITLES[kind], files.folder, pipeline, components=(part,), weights=weights)


def _folder(files: StoredFiles) -> Anatomy:
    alone = files.folder / "config.json"
    if alone.is_file() and not (files.folder / "model_index.json").is_file():
        config = read_json(alone)
        if what := CLASS_KINDS.get(str(config.get("_class_name"))):
            return _alone(what, config, files)
    index = read_json(files.folder / "model_index.json")
    pipeline = str(index.get("_class_name"))
    kind = KINDS.get(pipeline)
    if kind is None:
        unknown = f"pipeline {pipeline!r} is not supported; have {', '.join(KINDS)}"
        return Anatomy("an unknown model", files.folder, pipeline, problems=(unknown,))
    parts = tuple(_component(files, name) for name in _BUILD if _has(files.folder, index, name))
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


def _has(folder: Path, index: Mapping[str, Any], name: str) -> bool:
    if name == "safety_checker":
        return ships_safety_checker(folder)
    return any(index.get(name) or ())


def _component(files: StoredFiles, name: str) -> Component:
    """The network in the folder `name`, held against what its configuration says."""
    config = files.folder / name / "config.json"
    _, part = _network(name, lambda: _BUILD[name](read_json(config)), lambda: files.stored(name))
    return part


def _network(
    name: str, build: Callable[[], nn.Module], headers: Callable[[], Stored]
) -> tuple[nn.Module | None, Component]:
    """A network without weights, if it can be built, and how it compares with what is stored."""
    network, parameters, expected = None, 0, None
    problems: list[str] = []
    try:
        with META:
            network = build()
        state = network.state_dict()
        parameters = sum(tensor.numel() for tensor in state.values())
        expected = {key: tuple(tensor.shape) for key, tensor in state.items()}
    except (CheckpointError, ValueError) as error:
        problems.append(f"{name}: {error}")
    stored: Stored = {}
    try:
        stored = headers()
        if expected is not None:
            problems += _differences(name, expected, stored)
    except CheckpointError as error:
        problems.append(f"{name}: {error}")
    counted = Counter(PRECISIONS.get(dtype, dtype) for dtype, _ in stored.values())
    precisions = tuple(precision for precision, _ in counted.most_common())
    return network, Component(name, parameters, precisions, tuple(problems))


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
            name: weights_bytes(skeleton, dtype, safety=ships_safety_checker(skeleton.folder))
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
