"""Scripts: ControlNet's units become controls; others are accepted only if they are off."""

from typing import Any

import pytest

from protocol.errors import InvalidRequest
from service.dialects.automatic1111.controlnet.units import control_fields
from service.dialects.automatic1111.errors import ScriptNotFound
from service.dialects.automatic1111.requests import TextToImage, parse_body
from service.dialects.automatic1111.scripts import controlnet_arguments
from tests.service.dialects.automatic1111.webui import IMAGE, MASK

UNIT = {"image": IMAGE, "model": "canny [0123abcd]"}
CONTROL = {
    "model": "canny",
    "image": IMAGE,
    "weight": 1.0,
    "start": 0.0,
    "end": 1.0,
    "resize_mode": "crop",
}
# What webuiapi sends for a unit, and what Auto-Photoshop sends for one that is off.
WEBUIAPI_UNIT = {
    **UNIT,
    "mask": None,
    "module": "none",
    "weight": 0.8,
    "resize_mode": "Resize and Fill",
    "low_vram": False,
    "processor_res": 512,
    "threshold_a": 64,
    "threshold_b": 64,
    "guidance_start": 0.1,
    "guidance_end": 0.9,
    "control_mode": "Balanced",
    "pixel_perfect": False,
    "hr_option": "Both",
    "enabled": True,
}
PHOTOSHOP_UNIT = {
    "enabled": False,
    "input_image": "",
    "mask": "",
    "module": "canny",
    "model": "canny [0123abcd]",
    "weight": 1,
    "resize_mode": "Scale to Fit (Inner Fit)",
    "lowvram": True,
    "processor_res": 512,
    "guidance": 1,
    "guessmode": False,
}


def controls(*units: Any, name: str = "ControlNet", **sent: Any) -> list[dict[str, Any]]:
    body = parse_body(TextToImage, {"alwayson_scripts": {name: {"args": list(units)}}, **sent})
    found: Any = control_fields(controlnet_arguments(body), body).fields.get("controls", [])
    return list(found)


@pytest.mark.parametrize("name", ["ControlNet", "controlnet", "CONTROLNET"])
def test_a_unit_is_a_control(name: str) -> None:
    assert controls(UNIT, name=name) == [CONTROL]


def test_every_spelling_of_a_unit() -> None:
    assert controls(WEBUIAPI_UNIT) == [
        CONTROL | {"weight": 0.8, "start": 0.1, "end": 0.9, "resize_mode": "fill"}
    ]
    older = {"input_image": IMAGE, "model": "canny", "module": "None", "resize_mode": 0}
    older |= {"control_mode": 0, "lowvram": False, "guidance": 1.0, "guessmode": False}
    assert controls(older) == [CONTROL | {"resize_mode": "stretch"}]
    nested = {"image": {"image": IMAGE, "mask": None}, "model": "canny"}
    assert controls(nested) == [CONTROL]
    modes: dict[Any, str] = {
        "Just Resize": "stretch",
        "Crop and Resize": "crop",
        "Resize and Fill": "fill",
    }
    modes |= {"Envelope (Outer Fit)": "fill", "1": "crop", 2: "fill"}
    for mode, ours in modes.items():
        assert controls({**UNIT, "resize_mode": mode})[0]["resize_mode"] == ours


@pytest.mark.parametrize(
    "unit",
    [
        PHOTOSHOP_UNIT,
        {**WEBUIAPI_UNIT, "enabled": False},
        {**WEBUIAPI_UNIT, "image": ""},
        {"model": "canny", "module": "canny"},
        {"image": IMAGE, "model": "None", "module": "none"},
        {"image": IMAGE},
        {},
        None,
        False,
    ],
)
def test_units_that_change_nothing_are_accepted(unit: Any) -> None:
    assert controls(unit) == []
    assert controls(unit, UNIT) == [CONTROL]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"module": "canny"}, "module"),
        ({"module": "reference_only", "model": "None"}, "module"),
        ({"control_mode": "My prompt is more important"}, "control_mode"),
        ({"control_mode": 2}, "control_mode"),
        ({"resize_mode": "Other"}, "resize_mode"),
        ({"mask": MASK}, "mask"),
        ({"image": {"image": IMAGE, "mask": MASK}}, "mask"),
        ({"weight": "heavy"}, "weight"),
    ],
)
def test_units_that_ask_for_more_are_refused_by_name(changed: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        controls({"enabled": False}, {**UNIT, **changed})
    assert refused.value.field == f"alwayson_scripts.ControlNet.args.1.{field}"
    assert refused.value.message.startswith(refused.value.field)


def test_one_pass_of_hires_fix_cannot_be_left_out() -> None:
    low = {**UNIT, "hr_option": "Low res only"}
    assert controls(low) == [CONTROL]
    with pytest.raises(InvalidRequest, match="hr_option"):
        controls(low, enable_hr=True)


def test_errors_name_the_unit_of_the_client() -> None:
    units = [{"enabled": False}, UNIT]
    body = parse_body(TextToImage, {})
    names = control_fields(units, body).names
    assert names["controls.0.model"] == "alwayson_scripts.ControlNet.args.1.model"
    assert names["controls.0.end"] == "alwayson_scripts.ControlNet.args.1.guidance_end"


@pytest.mark.parametrize(
    "scripts",
    [
        {},
        {"ADetailer": {"args": [False]}},
        {"ADetailer": {"args": []}},
        {"ADetailer": {}},
        {"ADetailer": {"args": [True, False, {"ad_model": "None"}]}},
        {"ADetailer": {"args": [{"ad_model": "None"}, {}]}},
        {"adetailer": {"args": [False, False, {"ad_model": "face_yolov8n.pt"}]}},
        {"roop": {"args": [IMAGE, False, "0"]}},
        {"animatediff": {"args": [False]}},
        {"AnimateDiff": {"args": [{"enabled": False, "video_length": 16}]}},
        {"Soft Inpainting": {"args": [False, 1, 0.5]}},
        {"controlnet": {"args": []}},
        {"ControlNet": {"args": None}},
    ],
)
def test_scripts_that_are_off_are_accepted(scripts: Any) -> None:
    assert controlnet_arguments(parse_body(TextToImage, {"alwayson_scripts": scripts})) in ((), [])


@pytest.mark.parametrize(
    "scripts",
    [
        {"ADetailer": {"args": [True, False, {"ad_model": "face_yolov8n.pt"}]}},
        {"ADetailer": {"args": [{"ad_model": "face_yolov8n.pt"}]}},
        {"ReActor": {"args": [IMAGE, True, "0"]}},
        {"animatediff": {"args": [{"enable": True}]}},
        {"Soft Inpainting": {"args": [True, 1, 0.5]}},
        {"x": {"args": "y"}},
    ],
)
def test_scripts_that_are_on_are_refused_as_missing(scripts: Any) -> None:
    body = parse_body(TextToImage, {"alwayson_scripts": scripts})
    with pytest.raises(ScriptNotFound) as refused:
        controlnet_arguments(body)
    assert refused.value.message == f"Script '{next(iter(scripts))}' not found"


def test_a_selected_script_is_refused_as_missing() -> None:
    for name in ("", "None", None):
        assert not controlnet_arguments(parse_body(TextToImage, {"script_name": name}))
    body = parse_body(TextToImage, {"script_name": "ultimate sd upscale", "script_args": [1]})
    with pytest.raises(ScriptNotFound) as refused:
        controlnet_arguments(body)
    assert refused.value.message == "Script 'ultimate sd upscale' not found"
