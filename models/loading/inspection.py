"""Inspection of a checkpoint by its headers and configuration files, without reading weights.

Every network is built on the meta device, without memory. Its parameters are compared with the
tensors in the headers of its files, in any supported spelling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from models.autoencoders.registry import FIRST_STAGES, build_first_stage
from models.checkpoints.checkpoint import (
    CheckpointError,
    CheckpointMissing,
    build_on_meta,
    differences,
    read_json,
)
from models.checkpoints.convert.outline import is_pickle, outline_of
from models.checkpoints.detect.detected_file import detect_file
from models.checkpoints.detect.families import detect_family
from models.checkpoints.detect.kinds import CLASS_KINDS, OTHER_UPSCALER, Kind
from models.checkpoints.detect.single_file import is_single_file, single_file_folder
from models.checkpoints.detect.training_facts import POOLED
from models.checkpoints.detect.unsupported import refuse_network
from models.checkpoints.files import os_errors_of, user_path
from models.checkpoints.hub import is_hub_id
from models.checkpoints.key_plan import Shape
from models.checkpoints.keys.adapters import unsupported_adapter
from models.checkpoints.keys.embeddings import placeholders, vector_keys
from models.checkpoints.meta import META
from models.checkpoints.model_index import component_class
from models.checkpoints.readers.headers import read_header
from models.checkpoints.readers.stored_files import (
    LocalFiles,
    StoredFiles,
    StoredTensors,
    hub_files,
)
from models.loading.checkpoint_report import CheckpointReport, ComponentReport
from models.loading.footprint import network_bytes, weights_bytes
from models.loading.loader import BUNDLED, load_model
from models.loading.pipelines import pipeline_of
from models.loading.scheduler import read_noise_schedule, scheduler_notes
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
from models.upscalers.other_architectures import OtherUpscaler
from models.upscalers.registry import build_upscaler, load_upscaler

# A note on a model without a first stage.
NO_FIRST_STAGE = (
    "it holds no first stage: to serve it, name another model's as `vae` in the models config"
)

# A note on a file that has to be converted.
PICKLE = "it is a pickle, which is not served: `darkroom models add` converts it"

PRECISIONS = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}

Build = Callable[[dict[str, Any]], nn.Module]

_BUILD: Mapping[str, Build] = {
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
_BUILD_EXTRA: Mapping[Kind, Build] = {
    "vae": build_first_stage,
    "controlnet": lambda c: ControlNet(ControlNetConfig.from_dict(c)),
    "unet": _BUILD["unet"],
    "upscaler": build_upscaler,
}
_TITLES: Mapping[Kind, str] = {
    "lora": "a LoRA",
    "embedding": "a textual inversion embedding",
    "controlnet": "a ControlNet",
    "vae": "a first stage",
    "unet": "a UNet",
    "upscaler": "an upscaler",
}


def inspect_checkpoint(path_or_id: str) -> CheckpointReport:
    """Return the report of a model or an extra network, with all its problems.

    path_or_id: a folder, a safetensors file, a pickle, a hub id or "bundled". Of a hub id only the
    small files and the headers of the weights are fetched.

    Raises CheckpointError for a source that is not a checkpoint at all.
    """
    with os_errors_of(path_or_id):
        return _inspect(path_or_id)


def _inspect(path_or_id: str) -> CheckpointReport:
    path = BUNDLED if path_or_id == "bundled" else user_path(path_or_id)
    if path.is_dir():
        return _folder(LocalFiles(path))
    if is_single_file(path):
        return _file(path)
    if is_pickle(path):
        return _pickle(path)
    if path.exists():
        raise CheckpointError(
            f"{path} is neither a safetensors file nor a pickle, and is not opened: `darkroom "
            f"models add {path}` converts other formats"
        )
    if not is_hub_id(path_or_id):
        raise CheckpointMissing(
            f"{path_or_id!r} is neither a folder, a .safetensors file, a hub id (owner/name), nor "
            "the name of an added one"
        )
    return _folder(hub_files(path_or_id))


def _pickle(path: Path) -> CheckpointReport:
    """Report a pickle by its outline. The served models that it fits are found when it is added."""
    with TemporaryDirectory(prefix="darkroom-") as made:
        outline = outline_of(path, Path(made))
        try:
            report = _file(outline, Path(made))
        except CheckpointError as error:
            raise type(error)(str(error).replace(str(outline), str(path))) from error
    return replace(report, folder=None, kind=None, notes=(*report.notes, PICKLE))


def _file(path: Path, cache: Path | None = None) -> CheckpointReport:
    """Report a safetensors file. cache: see `single_file_folder`."""
    file = detect_file(read_header(path).shapes)
    if file.kind == "lora":
        problems = tuple(_unsupported(file.shapes))
        return CheckpointReport(_TITLES[file.kind], problems=problems, kind=file.kind)
    if file.kind == "embedding":
        notes = tuple(_placeholder_notes(file.shapes))
        return CheckpointReport(_TITLES[file.kind], notes=notes, kind=file.kind)
    return _folder(LocalFiles(single_file_folder(path, cache)))


def _unsupported(keys: Collection[str]) -> Iterator[str]:
    """Yield the problem of each key of a LoRA file that belongs to another kind of adapter.

    A LoRA's fit is checked against each model.
    """
    for key in sorted(keys):
        if kind := unsupported_adapter(key):
            yield f"{kind} is not supported: {key}"


def _placeholder_notes(keys: Collection[str]) -> Iterator[str]:
    """Yield a note for a word that stands for an embedding in its file and in no prompt here."""
    for word in placeholders(vector_keys(keys)):
        yield f"prompts use an embedding by its name here; {word!r}, as in the file, means nothing"


def _extra_network(kind: Kind, config: dict[str, Any], files: StoredFiles) -> CheckpointReport:
    config_file = files.folder / "config.json"
    network, component = _network(kind, config_file, _BUILD_EXTRA[kind], lambda: files.tensors(""))
    weights = {}
    if network is not None:
        sizes = (("fp16", torch.float16), ("fp32", torch.float32))
        weights = {name: network_bytes(network, dtype) for name, dtype in sizes}
    pipeline = str(config["_class_name"])
    notes = (POOLED,) if config.get("global_pool_conditions") else ()
    return CheckpointReport(
        _TITLES[kind],
        files.folder,
        pipeline,
        components=(component,),
        weights=weights,
        notes=notes,
        kind=kind,
    )


def _other_upscaler(folder: Path) -> CheckpointReport:
    """Report an upscaler that is not ours: only loading it shows what it is."""
    title = _TITLES["upscaler"]
    try:
        network = load_upscaler(folder, torch.float32, torch.device("cpu"))
    except (CheckpointError, ValueError) as error:
        problems = (str(error),)
        return CheckpointReport(title, folder, OTHER_UPSCALER, problems=problems, kind="upscaler")
    parameters = sum(tensor.numel() for tensor in network.state_dict().values())
    weights = {"fp32": network_bytes(network, torch.float32)}
    assert isinstance(network, OtherUpscaler)
    component = ComponentReport("upscaler", parameters)
    return CheckpointReport(
        title,
        folder,
        network.config.architecture,
        components=(component,),
        weights=weights,
        kind="upscaler",
    )


def _folder(files: StoredFiles) -> CheckpointReport:
    config_file = files.folder / "config.json"
    if config_file.is_file() and not (files.folder / "model_index.json").is_file():
        config = read_json(config_file)
        if config.get("_class_name") == OTHER_UPSCALER:
            return _other_upscaler(files.folder)
        if kind := CLASS_KINDS.get(str(config.get("_class_name"))):
            return _extra_network(kind, config, files)
        refuse_network(str(config.get("_class_name")))
    return _model(files)


def _model(files: StoredFiles) -> CheckpointReport:
    index = read_json(files.folder / "model_index.json")
    pipeline = str(index.get("_class_name"))
    try:
        spec = pipeline_of(index)
    except CheckpointError as error:
        problem = (str(error),)
        return CheckpointReport("an unknown model", files.folder, pipeline, problems=problem)
    components = tuple(
        _component(files, name) for name in _BUILD if _has(files.folder, index, name)
    )
    problems = []
    described: dict[str, Any] = {}
    try:
        if _lacks_first_stage(files.folder, index):
            described = _facts_without_first_stage(files.folder)
        else:
            described = _facts(load_model(str(files.folder), META, torch.float32))
    except CheckpointError as error:
        problems.append(str(error))
    reported = {problem for component in components for problem in component.problems}
    others = tuple(problem for problem in problems if problem not in reported)
    facts: dict[str, Any] = {"title": pipeline, "pipeline": pipeline, "folder": files.folder}
    return CheckpointReport(
        **facts | described, tasks=spec.tasks, components=components, problems=others
    )


def _lacks_first_stage(folder: Path, index: Mapping[str, Any]) -> bool:
    """Return True for a model that neither names nor holds a first stage."""
    return not any(component_class(index, n) or (folder / n).is_dir() for n in FIRST_STAGES)


def _has(folder: Path, index: Mapping[str, Any], name: str) -> bool:
    if name == "safety_checker":
        return ships_safety_checker(folder)
    config = folder / name / "config.json"
    return component_class(index, name) is not None or (name not in index and config.is_file())


def _component(files: StoredFiles, name: str) -> ComponentReport:
    """Compare the network that the folder `name` configures with its weights."""
    config = files.folder / name / "config.json"
    _, report = _network(name, config, _BUILD[name], lambda: files.tensors(name))
    return report


def _network(
    name: str, config: Path, build: Build, headers: Callable[[], StoredTensors]
) -> tuple[nn.Module | None, ComponentReport]:
    """Return a network without weights, if it can be built, and its comparison with the file."""
    network, parameters, expected = None, 0, None
    problems: list[str] = []
    try:
        network = build_on_meta(config, build)
        state = network.state_dict()
        parameters = sum(tensor.numel() for tensor in state.values())
        expected = {key: tuple(tensor.shape) for key, tensor in state.items()}
    except CheckpointError as error:
        problems.append(f"{name}: {error}")
    stored: StoredTensors = {}
    try:
        stored = headers()
        if expected is not None:
            problems += _differences(name, expected, stored)
    except CheckpointError as error:
        problems.append(f"{name}: {error}")
    counted = Counter(PRECISIONS.get(dtype, dtype) for dtype, _ in stored.values())
    precisions = tuple(precision for precision, _ in counted.most_common())
    return network, ComponentReport(name, parameters, precisions, tuple(problems))


def _differences(name: str, expected: Mapping[str, Shape], stored: StoredTensors) -> Iterator[str]:
    found = detect_file({key: shape for key, (_, shape) in stored.items()}).parameters(name)
    kinds = ("missing", "unexpected", "misshapen")
    for kind, wrong in zip(kinds, differences(expected, found), strict=True):
        yield from (f"{name}: {kind}: {key}" for key in wrong)


def _facts(skeleton: LatentDiffusion) -> dict[str, Any]:
    """Return the facts that a model without weights gives."""
    factor = skeleton.autoencoder.config.factor
    return {
        "title": _title(skeleton.unet, skeleton.folder),
        "side": skeleton.unet.config.sample_size * factor,
        "prediction": skeleton.noise_schedule.description,
        "notes": scheduler_notes(skeleton.folder),
        "weights": {
            name: weights_bytes(skeleton, dtype, safety=ships_safety_checker(skeleton.folder))
            for name, dtype in (("fp16", torch.float16), ("fp32", torch.float32))
        },
    }


def _facts_without_first_stage(folder: Path) -> dict[str, Any]:
    """Return the facts of a model that another first stage has to serve. Raises CheckpointError."""
    return {
        "title": _title(build_on_meta(folder / "unet/config.json", _BUILD["unet"]), folder),
        "prediction": read_noise_schedule(folder).description,
        "notes": (NO_FIRST_STAGE, *scheduler_notes(folder)),
    }


def _title(unet: nn.Module, folder: Path) -> str:
    """Return the title of the model's family, or its pipeline's name if it is of none."""
    shapes = {name: tuple(t.shape) for name, t in unet.state_dict().items()}
    try:
        return detect_family(shapes).title
    except CheckpointError:
        return str(read_json(folder / "model_index.json")["_class_name"])
