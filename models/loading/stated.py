"""Facts that an operator states in place of a model's files.

A file of weights does not always tell what its network predicts. `darkroom.json` in a model's
folder or the models config can; what is stated decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from models.checkpoints.checkpoint import read_json
from models.checkpoints.errors import UnsupportedConfig
from models.samplers.flow_schedule import FlowSchedule
from models.samplers.noise_schedule import PredictionType
from models.samplers.scheduler_config import has_zero_snr, training_of

STATED_FILE = "darkroom.json"
STATED_FIELDS = frozenset({"prediction_type", "zero_terminal_snr", "flow_shift", "ema"})


@dataclass(frozen=True)
class Stated:
    """Facts of a training; None: not stated.

    prediction_type: "flow_prediction" for a flow-matched model. zero_terminal_snr: True if the last
    noise level has no signal. flow_shift: of a flow's noise levels, 1 if the files say none. ema:
    True for the UNet's weights that were averaged over the training, False for those of its last
    step.
    """

    prediction_type: str | None = None
    zero_terminal_snr: bool | None = None
    flow_shift: float | None = None
    ema: bool | None = None

    def __post_init__(self) -> None:
        known = get_args(PredictionType)
        if self.prediction_type not in (None, *known):
            raise UnsupportedConfig(
                f"prediction_type is {self.prediction_type!r}, not one of {', '.join(known)}"
            )
        for name in ("zero_terminal_snr", "ema"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, bool):
                raise UnsupportedConfig(f"{name} is {value!r}, not true or false")
        if self.flow_shift is not None:
            try:
                FlowSchedule(shift=self.flow_shift)
            except ValueError as error:
                raise UnsupportedConfig(f"flow_{error}") from error

    def before(self, other: Stated) -> Stated:
        """Return what is stated here or, where nothing is, by `other`."""
        return Stated(
            other.prediction_type if self.prediction_type is None else self.prediction_type,
            other.zero_terminal_snr if self.zero_terminal_snr is None else self.zero_terminal_snr,
            other.flow_shift if self.flow_shift is None else self.flow_shift,
            other.ema if self.ema is None else self.ema,
        )

    def applied(self, scheduler: Mapping[str, Any]) -> dict[str, Any]:
        """Return a scheduler's configuration with what is stated.

        A class that cannot have zero terminal SNR is replaced by DDIM's, which can, and one that is
        for no flow by FlowMatchEulerDiscreteScheduler.

        Raises UnsupportedConfig for statements that the noise levels contradict.
        """
        config = dict(scheduler)
        if self.prediction_type is not None:
            config = _of_prediction(config, self.prediction_type)
        if self.flow_shift is not None:
            config = _of_shift(config, self.flow_shift)
        if self.zero_terminal_snr is not None:
            config["rescale_betas_zero_snr"] = self.zero_terminal_snr
            if self.zero_terminal_snr and training_of(config) != "betas":
                raise UnsupportedConfig(
                    f"zero_terminal_snr is true, and the noise levels of {config['_class_name']} "
                    "are not of betas"
                )
            if self.zero_terminal_snr and not has_zero_snr(config):
                config["_class_name"] = "DDIMScheduler"
        return config


_FLOW_CLASS = "FlowMatchEulerDiscreteScheduler"


def _of_prediction(config: dict[str, Any], kind: str) -> dict[str, Any]:
    is_flow = training_of(config) == "flow"
    if kind == "flow_prediction" and not is_flow:
        count = config.get("num_train_timesteps", 1000)
        return {"_class_name": _FLOW_CLASS, "num_train_timesteps": count}
    if is_flow and kind != "flow_prediction":
        raise UnsupportedConfig(
            f"prediction_type is {kind!r}, and {config['_class_name']} is configured for a flow"
        )
    return config | {"prediction_type": kind}


def _of_shift(config: dict[str, Any], shift: float) -> dict[str, Any]:
    if training_of(config) != "flow":
        raise UnsupportedConfig(
            f"flow_shift is {shift}, and {config['_class_name']} is configured for no flow: state "
            "prediction_type 'flow_prediction' too"
        )
    return config | {"shift" if config["_class_name"] == _FLOW_CLASS else "flow_shift": shift}


NOTHING_STATED = Stated()


def stated_in(folder: Path) -> Stated:
    """Return what `darkroom.json` of a model's folder states. Raises UnsupportedConfig."""
    path = folder / STATED_FILE
    if not path.is_file():
        return NOTHING_STATED
    entries = read_json(path)
    try:
        return Stated(**{key: entries[key] for key in STATED_FIELDS & entries.keys()})
    except UnsupportedConfig as error:
        raise UnsupportedConfig(f"{path}: {error}") from error
