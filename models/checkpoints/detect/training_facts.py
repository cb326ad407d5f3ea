"""Facts about the training of a single file that its shapes do not contain.

The noise levels of CosXL (`edm_marks`) decide everything. Otherwise there are four sources, of
which the first that states a fact decides:

    name.yaml next to name.safetensors    model.params.parameterization, linear_start, …
    marker tensors of the file            v_pred, ztsnr
    metadata of the file                  modelspec.prediction_type, ss_zero_terminal_snr
    its name, for Stable Diffusion 2      768 and -v, or 512 and base

The metadata come after the tensors because programs that merge models copy them unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.checkpoints.detect.edm_marks import edm_scheduler
from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import STEMS
from models.checkpoints.readers.yaml_file import read_yaml

# The key of `scheduler_config.json` under which the notes are kept; diffusers ignores it.
NOTES = "_notes"

# A note on a file of Stable Diffusion 2 that states no prediction type.
ASSUMED = (
    "nothing states its prediction type: v_prediction is assumed, as of Stable Diffusion 2 at 768 "
    "pixels; if its images are noise, put `parameterization: eps` into a .yaml of its name"
)

# A note on such a ControlNet: see `pools_conditions`.
POOLED = "its residuals are averaged over height and width (global_pool_conditions)"

_PREDICTIONS = {
    "eps": "epsilon",
    "epsilon": "epsilon",
    "v": "v_prediction",
    "v_pred": "v_prediction",
    "vpred": "v_prediction",
    "v_prediction": "v_prediction",
    "velocity": "v_prediction",
    "x0": "sample",
    "sample": "sample",
}
_ZERO_SNR = ("_zsnr", "_ztsnr", "_zero_snr")
_ZERO_SNR_KEYS = {"zero_snr", "zsnr", "ztsnr", "zero_terminal_snr", "rescale_betas_zero_snr"}

# The output of a network, and its noise levels, in configurations of generative-models (SDXL).
_SCALINGS = {"EpsScaling": "epsilon", "VScaling": "v_prediction"}
_DISCRETIZATION = "LegacyDDPMDiscretization"

# Numbers of a CompVis configuration, by the names in `scheduler_config.json`.
_BETAS = {
    "linear_start": "beta_start",
    "linear_end": "beta_end",
    "timesteps": "num_train_timesteps",
}


@dataclass(frozen=True)
class TrainingFacts:
    """settings: of `scheduler_config.json`, in place of the family's. notes: contradictions.

    scheduler: all of its settings, where the training was another than the family's.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    scheduler: Mapping[str, Any] | None = None


UNKNOWN_TRAINING = TrainingFacts()
NO_NUMBERS: Mapping[str, float] = {}


@dataclass(frozen=True)
class _Statement:
    """The facts of one source; None for a fact that it does not state."""

    source: str
    prediction_type: str | None = None
    rescale_betas_zero_snr: bool | None = None


def training_facts(
    configuration: Path | None,
    keys: Collection[str],
    metadata: Mapping[str, str],
    ambiguous_name: str | None = None,
    numbers: Mapping[str, float] = NO_NUMBERS,
) -> TrainingFacts:
    """Return the facts about a file with the tensors `keys`.

    configuration: the YAML file next to it, if there is one. ambiguous_name: its name, if files of
    its family have either prediction type. numbers: those that the file holds beside its weights.

    Raises CheckpointError for a statement that is not understood, naming its source.
    """
    if scheduler := edm_scheduler(numbers):
        return TrainingFacts(scheduler=scheduler)
    config = (configuration.name, read_yaml(configuration)) if configuration else None
    statements = [
        *([_of_yaml(*config)] if config else []),
        _of_markers(keys),
        _of_metadata(metadata),
        *([_of_name(ambiguous_name)] if ambiguous_name else []),
    ]
    settings: dict[str, Any] = _betas(*config) if config else {}
    notes: list[str] = []
    for name in ("prediction_type", "rescale_betas_zero_snr"):
        stated = [(s.source, getattr(s, name)) for s in statements]
        stated = [(source, value) for source, value in stated if value is not None]
        if not stated:
            continue
        (first, used), *others = stated
        settings[name] = used
        notes += (
            f"{name} is {used!r} by {first}, which is used, and {value!r} by {source}"
            for source, value in others
            if value != used
        )
    if ambiguous_name and "prediction_type" not in settings:
        notes.append(ASSUMED)
    return TrainingFacts(settings, tuple(notes))


def configuration_file(path: Path) -> Path | None:
    """Return the file with the name of `path` and the suffix `.yaml`, if there is one.

    It may be next to a link or next to the file that the link names.
    """
    places = (path.with_suffix(".yaml"), path.resolve().with_suffix(".yaml"))
    return next((place for place in places if place.is_file()), None)


def pools_conditions(path: Path) -> bool:
    """Return True for the file of a ControlNet whose residuals are averaged over the image.

    No tensor tells. The YAML file next to it does, by `global_average_pooling`; without it the
    name, which contains "shuffle" for the published ones.

    Raises Malformed.
    """
    configuration = configuration_file(path)
    found = dict(_entries(read_yaml(configuration))) if configuration else {}
    for key in ("global_average_pooling", "global_pool_conditions"):
        if key in found:
            return _is_true(found[key])
    name = path.parent.name if path.stem in STEMS else path.stem
    return "shuffle" in name.lower()


def _of_markers(keys: Collection[str]) -> _Statement:
    return _Statement(
        "the tensors v_pred and ztsnr",
        "v_prediction" if "v_pred" in keys else None,
        True if "ztsnr" in keys else None,
    )


def _of_metadata(metadata: Mapping[str, str]) -> _Statement:
    key = "modelspec.prediction_type"
    prediction, zero_snr = _prediction(f"the metadata {key}", metadata.get(key) or None)
    if _is_true(metadata.get("ss_zero_terminal_snr")):
        zero_snr = True
    return _Statement("the file's metadata", prediction, zero_snr)


def _of_name(name: str) -> _Statement:
    """Read the published names, such as v2-1_768-ema-pruned, 768-v-ema and 512-base-ema."""
    words = re.split(r"[^0-9a-z]+", name.lower())
    if {"768", "v", "vpred"} & set(words):
        return _Statement("the file's name", "v_prediction")
    return _Statement("the file's name", "epsilon" if {"512", "base"} & set(words) else None)


def _of_yaml(name: str, config: Mapping[str, Any]) -> _Statement:
    found = dict(_entries(config))
    prediction, zero_snr = _prediction(f"{name}: parameterization", found.get("parameterization"))
    scaling = found.get("scaling_config")
    if prediction is None and isinstance(scaling, dict) and "target" in scaling:
        prediction = _SCALINGS.get(str(scaling["target"]).rsplit(".", 1)[-1])
        if prediction is None:
            raise CheckpointError(
                f"{name}: scaling_config.target {scaling['target']!r} is not supported"
            )
    discretization = found.get("discretization_config")
    if isinstance(discretization, dict) and _DISCRETIZATION not in str(
        discretization.get("target")
    ):
        target = discretization.get("target")
        raise CheckpointError(f"{name}: discretization_config.target {target!r} is not supported")
    for key in _ZERO_SNR_KEYS & found.keys():
        zero_snr = _is_true(found[key])
    return _Statement(name, prediction, zero_snr)


def _betas(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the noise schedule of a CompVis configuration. Raises CheckpointError."""
    model = config.get("model")
    params = model.get("params") if isinstance(model, dict) else None
    if not isinstance(params, dict):
        return {}
    schedule = params.get("beta_schedule", "linear")
    if schedule != "linear":  # which is named "scaled_linear" in diffusers
        raise CheckpointError(f"{name}: beta_schedule {schedule!r} is not supported; have 'linear'")
    return {
        ours: _number(name, theirs, params[theirs])
        for theirs, ours in _BETAS.items()
        if theirs in params
    }


def _number(name: str, key: str, value: object) -> float:
    """Return a number; YAML 1.1 reads 1e-4 as text. Raises CheckpointError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    try:
        return float(str(value))
    except ValueError as error:
        raise CheckpointError(f"{name}: {key} is {value!r}, not a number") from error


def _entries(value: object) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a configuration at every depth, the outer ones last."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _entries(inner)
        yield from ((str(key), inner) for key, inner in value.items())
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _prediction(source: str, stated: object) -> tuple[str | None, bool | None]:
    """Return the prediction type, and True if zero terminal SNR is stated with it.

    Raises CheckpointError for an unknown one.
    """
    if stated is None:
        return None, None
    name = str(stated).strip().lower().replace("-", "_").replace(" ", "_")
    zero_snr = next((suffix for suffix in _ZERO_SNR if name.endswith(suffix)), "")
    prediction = _PREDICTIONS.get(name.removesuffix(zero_snr))
    if prediction is None:
        known = ", ".join(_PREDICTIONS)
        raise CheckpointError(f"{source} is {stated!r}, which is not supported; have {known}")
    return prediction, True if zero_snr else None


def _is_true(value: object) -> bool:
    return str(value).strip().lower() in ("true", "1", "yes")
