"""The units of the script ControlNet as our controls."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from protocol.errors import InvalidRequest
from protocol.request.inpainting import ResizeMode
from service.dialects.automatic1111.controlnet.modules import NONE, NOTHING, Module
from service.dialects.automatic1111.requests import Generation, TextToImage, WebuiBody, parse_body
from service.schemas.body_parser import Fields

MODEL_HASH = re.compile(r" \[[0-9a-fA-F]{8}\]$")
BALANCED = frozenset({"", "0", "balanced"})
# Names of the present version, numbers of older ones, and names of the oldest.
RESIZE_MODES = {
    **dict.fromkeys(("0", "just resize"), ResizeMode.STRETCH),
    **dict.fromkeys(("1", "crop and resize", "scale to fit (inner fit)"), ResizeMode.CROP),
    **dict.fromkeys(("2", "resize and fill", "envelope (outer fit)"), ResizeMode.FILL),
}
MAX_UNITS = 16
SCRIPT = "alwayson_scripts.ControlNet.args"


class Unit(WebuiBody):
    """A unit of ControlNet; all its other fields have no effect here."""

    enabled: bool = True
    image: Any = None
    input_image: Any = None
    mask: Any = None
    mask_image: Any = None
    effective_region_mask: Any = None
    module: str = NONE
    threshold_a: float | None = None
    model: str = "None"
    weight: float = 1.0
    resize_mode: str | int = "Crop and Resize"
    control_mode: str | int = "Balanced"
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    hr_option: str = Field(default="Both")

    @property
    def file(self) -> object:
        """The control image, which older clients put into an object."""
        given = self.image or self.input_image
        return given.get("image") if isinstance(given, Mapping) else given

    @property
    def masks(self) -> list[object]:
        given = self.image or self.input_image
        inner = given.get("mask") if isinstance(given, Mapping) else None
        return [inner, self.mask, self.mask_image, self.effective_region_mask]


class Controls(NamedTuple):
    """Our fields of units, the client's names of these, and the preprocessor of each."""

    fields: Fields
    names: dict[str, str]
    modules: Sequence[Module]


def control_fields(units: Sequence[object], body: Generation) -> Controls:
    """Return our controls for the units that are on.

    A unit that is disabled, or without image or model, changes nothing. Raises `InvalidRequest` for
    one that asks for what is not done here.
    """
    if len(units) > MAX_UNITS:
        raise InvalidRequest(SCRIPT, f"a list of {len(units)}", f"at most {MAX_UNITS}", "too-many")
    controls, names, modules = list[Fields](), dict[str, str](), list[Module]()
    for i, given in enumerate(units):
        unit = _unit(given, f"{SCRIPT}.{i}")
        if unit is None:
            continue
        modules.append(Module.of(f"{SCRIPT}.{i}.module", unit.module, unit.threshold_a))
        _check_supported(unit, f"{SCRIPT}.{i}", body)
        for ours, theirs in (
            *(("", ""), (".model", ".model"), (".image", ".image"), (".weight", ".weight")),
            *((".start", ".guidance_start"), (".end", ".guidance_end")),
        ):
            names[f"controls.{len(controls)}{ours}"] = f"{SCRIPT}.{i}{theirs}"
        controls.append(_control(unit))
    return Controls({"controls": controls} if controls else {}, names, modules)


def _unit(given: object, field: str) -> Unit | None:
    """Return a unit, None if it is off."""
    if not isinstance(given, Mapping) or given.get("enabled") is False:
        return None
    try:
        unit = parse_body(Unit, dict(given))
    except InvalidRequest as error:
        raise type(error)(f"{field}.{error.field}", error.value, error.bound) from error
    without_effect = unit.module.lower() in NOTHING and unit.model.lower() in NOTHING
    return unit if unit.enabled and unit.file and not without_effect else None


def _check_supported(unit: Unit, field: str, body: Generation) -> None:
    if str(unit.control_mode).lower() not in BALANCED:
        raise InvalidRequest(
            f"{field}.control_mode", unit.control_mode, "Balanced", "not-supported"
        )
    if str(unit.resize_mode).lower() not in RESIZE_MODES:
        bound = "Just Resize, Crop and Resize or Resize and Fill"
        raise InvalidRequest(f"{field}.resize_mode", unit.resize_mode, bound, "unknown-choice")
    if any(unit.masks):
        raise InvalidRequest(f"{field}.mask", "given", "left out", "not-supported")
    hires = isinstance(body, TextToImage) and body.enable_hr
    if hires and unit.hr_option.lower() != "both":
        raise InvalidRequest(f"{field}.hr_option", unit.hr_option, "Both", "not-supported")


def _control(unit: Unit) -> Fields:
    return {
        "model": MODEL_HASH.sub("", unit.model),
        "image": unit.file,
        "weight": unit.weight,
        "start": unit.guidance_start,
        "end": unit.guidance_end,
        "resize_mode": RESIZE_MODES[str(unit.resize_mode).lower()].value,
    }
