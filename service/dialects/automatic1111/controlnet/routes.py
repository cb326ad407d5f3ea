"""The routes below /controlnet: what there is, the preprocessors, and images of poses."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request

from protocol.errors import InvalidRequest
from protocol.request.fields import MAX_CONTROLS
from service.dialects.automatic1111.controlnet.modules import (
    ALIASES,
    DETAILS,
    MODULES,
    NONE,
    Module,
)
from service.dialects.automatic1111.controlnet.poses import Canvas, parse_canvases, rendered
from service.dialects.automatic1111.description import READ, WRITE, body, body_of_list, errors
from service.dialects.automatic1111.listing import Cards
from service.dialects.automatic1111.requests import Detection, parse_body
from service.dialects.automatic1111.responses import (
    ControlTypesAnswer,
    DetectionAnswer,
    ModelListAnswer,
    ModuleListAnswer,
)
from service.dialects.automatic1111.timed_route import TimedRoute
from service.dialects.lenient import read_json, read_json_list
from service.images.input_images import InputImages
from service.routes.deps import ServicesDep
from service.schemas.data_uri import decode_file
from service.schemas.examples import IMAGE

router = APIRouter(prefix="/controlnet", route_class=TimedRoute, responses=errors(*READ))

POSES = {
    "people": [{"pose_keypoints_2d": [0.5, 0.2, 1.0, 0.5, 0.4, 1.0, *[0.0] * 48]}],
    "canvas_width": 512,
    "canvas_height": 512,
}
VERSION = 3  # of the extension's API: units have control modes and pixel perfection
NO_MODEL = "None"
# The kinds of ControlNets that the extension knows by a part of their names.
KINDS: Mapping[str, tuple[str, ...]] = {
    "Canny": ("canny",),
    "Depth": ("depth",),
    "IP2P": ("ip2p",),
    "Inpaint": ("inpaint",),
    "Lineart": ("lineart",),
    "MLSD": ("mlsd",),
    "NormalMap": ("normal",),
    "OpenPose": ("openpose", "pose"),
    "Recolor": ("recolor",),
    "Scribble": ("scribble", "sketch"),
    "Segmentation": ("seg",),
    "Shuffle": ("shuffle",),
    "SoftEdge": ("softedge", "hed", "pidi"),
    "Tile": ("tile", "blur"),
}


@router.get("/version")
async def controlnet_version() -> dict[str, int]:
    """Get the version of the extension's API."""
    return {"version": VERSION}


@router.get("/model_list")
async def controlnet_model_list(cards: Cards) -> ModelListAnswer:
    """List the ControlNets of all models."""
    return ModelListAnswer(model_list=_models(cards))


@router.get("/module_list")
async def controlnet_module_list(alias_names: bool = False) -> ModuleListAnswer:
    """List the preprocessors, by the labels that the extension shows if `alias_names` is true."""
    labels = {name: ALIASES.get(name, name) if alias_names else name for name in MODULES}
    return ModuleListAnswer(
        module_list=[*labels.values()],
        module_detail={
            label: {"model_free": False, "sliders": DETAILS[name]} for name, label in labels.items()
        },
    )


@router.get("/control_types")
async def controlnet_control_types(cards: Cards) -> ControlTypesAnswer:
    """List the kinds of ControlNets by their names; `All` has all."""
    models = _models(cards)
    named = {
        kind: [name for name in models if any(part in name.lower() for part in parts)]
        for kind, parts in KINDS.items()
    }
    found = {kind: _kind(names, names[0]) for kind, names in named.items() if names}
    return ControlTypesAnswer(control_types={"All": _kind(models, NO_MODEL), **found})


def _kind(models: Sequence[str], default: str) -> dict[str, Any]:
    return {
        "module_list": list(MODULES),
        "model_list": [NO_MODEL, *models],
        "default_option": NONE,
        "default_model": default,
    }


@router.get("/settings")
async def controlnet_settings() -> dict[str, int]:
    """Get the number of ControlNets that one request may use."""
    return {"control_net_unit_count": MAX_CONTROLS}


@router.post(
    "/detect",
    openapi_extra=body(
        Detection, {"controlnet_module": "invert", "controlnet_input_images": [IMAGE]}
    ),
    responses=errors(*WRITE),
)
async def controlnet_detect(request: Request, services: ServicesDep) -> DetectionAnswer:
    """Preprocess images; `none` returns them as they are."""
    await services.admission.count(request.scope["user"])
    asked = parse_body(Detection, await read_json(request, services.decoding))
    module = _module(asked)
    images = asked.controlnet_input_images or asked.controlnet_images
    if not images:
        error = InvalidRequest("controlnet_input_images", None, "a list of images")
        error.message = "No image selected"
        raise error
    found = await to_thread.run_sync(
        _detected, module, images, services.submitter.images, limiter=services.decoding
    )
    return DetectionAnswer(info="Success", images=found)


def _module(asked: Detection) -> Module:
    """Return the preprocessor that is asked for. Raises `InvalidRequest` in the known words."""
    try:
        return Module.of("controlnet_module", asked.controlnet_module, asked.controlnet_threshold_a)
    except InvalidRequest as error:
        error.message = "Module not available"
        raise


def _detected(module: Module, images: list[str], opener: InputImages) -> list[str]:
    return [
        _detected_image(module, f"controlnet_input_images.{i}", image, opener)
        for i, image in enumerate(images)
    ]


def _detected_image(module: Module, field: str, image: str, opener: InputImages) -> str:
    if not module.changes:
        opener.open(field, decode_file(field, image))
        return image.rpartition(",")[2]
    changed = module.applied(field, image, opener)
    assert isinstance(changed, bytes)
    return base64.b64encode(changed).decode()


@router.post(
    "/render_openpose_json",
    openapi_extra=body_of_list(Canvas, [POSES]),
    responses=errors(*WRITE),
    response_model_exclude_none=True,
)
async def controlnet_render_openpose_json(
    request: Request, services: ServicesDep
) -> DetectionAnswer:
    """Render the poses of people as ControlNets for OpenPose read them."""
    await services.admission.count(request.scope["user"])
    given = await read_json_list(request, services.decoding)
    canvases = parse_canvases(given, services.settings.max_image_pixels)
    if not canvases:
        return DetectionAnswer(info="No pose data detected.")
    images = [
        await to_thread.run_sync(
            rendered, i, canvas, services.submitter.images, limiter=services.decoding
        )
        for i, canvas in enumerate(canvases)
    ]
    return DetectionAnswer(info="Success", images=images)


def _models(cards: Cards) -> list[str]:
    return list(dict.fromkeys(name for card in cards.values() for name in card.controlnets))
