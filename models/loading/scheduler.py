"""The scheduler's configuration of a model folder, as the model's pipeline uses it.

Pipelines of Stable Diffusion 1.x set fields that older files lack, and replace those of the file:
see `StableDiffusionPipeline.__init__` of diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.checkpoints.checkpoint import CheckpointError, read_json
from models.checkpoints.detect.training_facts import NOTES

_STABLE_DIFFUSION = {"steps_offset": 1, "clip_sample": False}
_SET_BY_PIPELINE: Mapping[str, Mapping[str, Any]] = {
    "StableDiffusionPipeline": _STABLE_DIFFUSION,
    "StableDiffusionImg2ImgPipeline": _STABLE_DIFFUSION,
    "StableDiffusionInpaintPipeline": {"steps_offset": 1, "skip_prk_steps": True},
    "JapaneseStableDiffusionPipeline": _STABLE_DIFFUSION,
}


def read_scheduler(folder: Path) -> dict[str, Any]:
    """Return the content of `scheduler_config.json`, with the fields that the pipeline sets.

    The class is that of the file, or of model_index.json if the file names none.

    Raises CheckpointMissing, and CheckpointError where neither names a class.
    """
    index = read_json(folder / "model_index.json")
    path = folder / "scheduler" / "scheduler_config.json"
    config = read_json(path)
    name = config.get("_class_name") or _class_in(index)
    if name is None:
        raise CheckpointError(f"{path} names no scheduler class, and neither does model_index.json")
    set_by_pipeline = _SET_BY_PIPELINE.get(str(index.get("_class_name")), {})
    return {**config, "_class_name": name, **set_by_pipeline}


def scheduler_notes(folder: Path) -> tuple[str, ...]:
    """Return what an operator has to know of a model's scheduler: contradictions of its files."""
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    used = config.get("_class_name")
    other = _class_in(read_json(folder / "model_index.json"))
    differs = used is not None and other is not None and used != other
    classes = f"scheduler_config.json is of {used}, which is used; model_index.json names {other}"
    noted = config.get(NOTES)
    notes = noted if isinstance(noted, list) else []
    return (*([classes] if differs else []), *map(str, notes))


def _class_in(index: Mapping[str, Any]) -> Any:
    """Return the scheduler class in model_index.json, after its package; None without one."""
    entry = index.get("scheduler")
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None
