"""The operator's configuration of models to serve, `models.toml`.

    memory_budget = "20 GiB"

    [models.sd15]
    source = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    aliases = ["default"]
    resident = true
    defaults = { steps = 25, sampler = "dpmpp_2m" }

Everything is checked when it is read; an error has the name of its entry.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from protocol.record import Float, Int, Record, Text
from protocol.request.fields import ServedName, normal_form
from protocol.request.model_card import ModelCard

ON_DEMAND: Literal["on-demand"] = "on-demand"

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}

# Fields of a card that are not defaults: they come from the model or from its entry.
_NOT_A_DEFAULT = {"name", "aliases", "family", "tokenizer_sha256", "refiners"}


class InvalidModelsConfig(ValueError):
    """A models.toml that cannot be used; the message has the entry and the error."""


def _bytes(value: object) -> object:
    """Return a number of bytes from text such as 20 GiB, 8GB, 500M."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", value.upper())
    if found is None:
        raise ValueError("a number of bytes, as in 20 GiB or 8GB")
    return int(float(found[1]) * _UNITS[found[2]])


def _card_entries(defaults: dict[str, Any]) -> dict[str, Any]:
    """Return defaults by the names of the card's fields: `steps` stands for `default_steps`."""
    known = ModelCard.model_fields.keys() - _NOT_A_DEFAULT
    entries = {}
    for name, value in defaults.items():
        entry = f"default_{name}" if f"default_{name}" in known else name
        if entry not in known:
            raise ValueError(f"entries of a card, which {name} is not: {', '.join(sorted(known))}")
        entries[entry] = tuple(value) if isinstance(value, list) else value
    return entries


Bytes = Annotated[Int, BeforeValidator(_bytes), Field(ge=1)]


class ModelConfig(Record):
    """A model to serve.

    `source` is a folder, a file, a hub id or the name of an installed model. `vae` and `unet` are
    the same, in place of the model's own; `tiny_vae` is a fast decoder in addition to it.
    `prediction_type`, `zero_terminal_snr`, `flow_shift`, `ema` and `family` decide in place of its
    files. `defaults` are fields of its card. `refiner` names another entry, which is in memory
    whenever this model is.
    """

    source: Text = Field(min_length=1)
    aliases: tuple[ServedName, ...] = ()
    resident: Literal[True, "on-demand"] = ON_DEMAND
    idle_unload_s: Annotated[Float, Field(gt=0)] | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp8"] | None = None
    vae: Text | None = Field(default=None, min_length=1)
    tiny_vae: Text | None = Field(default=None, min_length=1)
    unet: Text | None = Field(default=None, min_length=1)
    prediction_type: Literal["epsilon", "v_prediction", "sample", "flow_prediction"] | None = None
    zero_terminal_snr: bool | None = None
    ema: bool | None = None
    flow_shift: Annotated[Float, Field(ge=0.01, le=100)] | None = None
    family: Text | None = Field(default=None, min_length=1)
    refiner: ServedName | None = None
    defaults: Annotated[dict[str, Any], AfterValidator(_card_entries)] = Field(default_factory=dict)


class ModelsConfig(Record):
    """All models to serve, by name, and the bytes that their weights may take."""

    models: dict[ServedName, ModelConfig] = Field(min_length=1)
    memory_budget: Bytes | None = None

    @field_validator("models", mode="before")
    @classmethod
    def _names_are_different(cls, models: Any) -> Any:
        if isinstance(models, Mapping) and len(set(map(normal_form, models))) < len(models):
            raise ValueError("names of different letters, not of equal ones in different encodings")
        return models

    @model_validator(mode="after")
    def _names_are_clear(self) -> Self:
        used: dict[str, str] = dict.fromkeys(self.models, "a model")
        for name, config in self.models.items():
            for alias in config.aliases:
                if alias in used:
                    raise ValueError(f"models.{name}: the alias {alias!r} is {used[alias]} already")
                used[alias] = f"an alias of {name!r}"
        return self

    @model_validator(mode="after")
    def _refiners_are_there(self) -> Self:
        for name, config in self.models.items():
            if (refiner := config.refiner) is None:
                continue
            if refiner not in self.models or refiner == name:
                raise ValueError(f"models.{name}: the refiner {refiner!r} is no other entry")
            if self.models[refiner].refiner is not None:
                raise ValueError(f"models.{name}: the refiner {refiner!r} has one itself")
        return self


def read_models_config(path: Path) -> ModelsConfig:
    """Read the configuration at `path`. Raises InvalidModelsConfig."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidModelsConfig(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidModelsConfig(f"{path} is not TOML: {error}") from error
    try:
        return ModelsConfig.model_validate(_with_tuples(data))
    except ValidationError as error:
        faults = [_place(fault["loc"]) + _message(fault) for fault in error.errors()]
        raise InvalidModelsConfig(f"{path}:\n  " + "\n  ".join(faults)) from error


def _message(fault: Mapping[str, Any]) -> str:
    """Return the message of an error; one of ours is the bound of a field, or of several."""
    if fault["type"] != "value_error":
        return str(fault["msg"])
    return f"must be {fault['ctx']['error']}" if fault["loc"] else str(fault["ctx"]["error"])


def _with_tuples(value: Any) -> Any:
    """Return `value` with tuples for lists, as records have them."""
    if isinstance(value, Mapping):
        return {name: _with_tuples(inner) for name, inner in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _place(location: tuple[int | str, ...]) -> str:
    """Return the place in the file, such as `models.xl.steps: `."""
    parts = [str(part) for part in location if part != "[key]"]
    return ".".join(parts) + ": " if parts else ""
