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
from models.checkpoints.errors import UnsupportedConfig
from models.checkpoints.model_index import component_class
from models.loading.stated import NOTHING_STATED, Stated, stated_in
from models.samplers.noise_schedule import NoiseLevels, NoiseSchedule
from models.samplers.published_levels import published_levels

_STABLE_DIFFUSION = {"steps_offset": 1, "clip_sample": False}
_NOISE_LEVELS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
_SET_BY_PIPELINE: Mapping[str, Mapping[str, Any]] = {
    "StableDiffusionPipeline": _STABLE_DIFFUSION,
    "StableDiffusionImg2ImgPipeline": _STABLE_DIFFUSION,
    "StableDiffusionInpaintPipeline": {"steps_offset": 1, "skip_prk_steps": True},
    "JapaneseStableDiffusionPipeline": _STABLE_DIFFUSION,
}


def read_scheduler(folder: Path, stated: Stated = NOTHING_STATED) -> dict[str, Any]:
    """Return the content of `scheduler_config.json`, with the fields that the pipeline sets.

    The class is that of the file, or of model_index.json if the file names none. stated: by the
    operator, in place of what the files say, `darkroom.json` included.

    Raises CheckpointMissing, and CheckpointError where neither names a class.
    """
    index = read_json(folder / "model_index.json")
    path = folder / "scheduler" / "scheduler_config.json"
    config = read_json(path)
    name = config.get("_class_name") or component_class(index, "scheduler")
    if name is None:
        raise CheckpointError(f"{path} names no scheduler class, and neither does model_index.json")
    set_by_pipeline = _SET_BY_PIPELINE.get(str(index.get("_class_name")), {})
    read = {**config, "_class_name": name, **set_by_pipeline}
    return stated.before(stated_in(folder)).applied(read)


def scheduler_notes(folder: Path, stated: Stated = NOTHING_STATED) -> tuple[str, ...]:
    """Return what an operator has to know of a model's scheduler: contradictions of its files.

    Of the prediction type nothing, where the operator states it.
    """
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    used = config.get("_class_name")
    other = component_class(read_json(folder / "model_index.json"), "scheduler")
    differs = used is not None and other is not None and used != other
    classes = f"scheduler_config.json is of {used}, which is used; model_index.json names {other}"
    is_stated = stated.before(stated_in(folder)).prediction_type is not None
    noted = [] if is_stated else config.get(NOTES)
    notes = noted if isinstance(noted, list) else []
    return (*([classes] if differs else []), *map(str, notes))


def read_noise_schedule(folder: Path, stated: Stated = NOTHING_STATED) -> NoiseLevels:
    """Return the noise levels of a model folder. stated: see `read_scheduler`.

    Raises CheckpointMissing, and UnsupportedConfig for one that is computed differently here.
    """
    try:
        return published_levels(read_scheduler(folder, stated))
    except (ArithmeticError, TypeError, ValueError) as error:
        raise UnsupportedConfig(f"{folder / 'scheduler'}: {error}") from error


def read_image_noise_schedule(folder: Path) -> NoiseSchedule:
    """Return the schedule of the noise that is added to an image before it is upscaled.

    Nothing is sampled by it, so of `low_res_scheduler` only the noise levels matter. Raises
    CheckpointMissing and UnsupportedConfig.
    """
    path = folder / "low_res_scheduler" / "scheduler_config.json"
    config = read_json(path)
    if config.get("rescale_betas_zero_snr"):
        raise UnsupportedConfig(f"{path}: rescale_betas_zero_snr is not supported")
    given = {key: config[key] for key in _NOISE_LEVELS if config.get(key) is not None}
    if isinstance(given.get("trained_betas"), list):
        given["trained_betas"] = tuple(given["trained_betas"])
    try:
        return NoiseSchedule(**given)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise UnsupportedConfig(f"{path}: {error}") from error
