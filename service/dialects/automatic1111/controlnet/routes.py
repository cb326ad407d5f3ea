"""The routes below /controlnet: what there is, and the preprocessor that changes nothing."""

from collections.abc import Mapping
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request

from protocol.errors import InvalidRequest
from protocol.request.fields import MAX_CONTROLS
from service.dialects.automatic1111.controlnet.units import NOTHING
from service.dialects.automatic1111.description import READ, WRITE, body, errors
from service.dialects.automatic1111.listing import Cards
from service.dialects.automatic1111.requests import Detection, parse_body
from service.dialects.automatic1111.responses import (
    ControlTypesAnswer,
    DetectionAnswer,
    ModelListAnswer,
    ModuleListAnswer,
)
from service.dialects.automatic1111.timed_route import TimedRoute
from service.dialects.lenient import read_json
from service.routes.deps import ServicesDep
from service.schemas.data_uri import decode_file
from service.schemas.examples import IMAGE

router = APIRouter(prefix="/controlnet", route_class=TimedRoute, responses=errors(*READ))

VERSION = 3  # of the extension's API: units have control modes and pixel perfection
MODULE = "none"
MODULE_DETAIL: Mapping[str, Any] = {MODULE: {"model_free": False, "sliders": []}}
NO_MODEL = "None"


@router.get("/version")
async def controlnet_version() -> dict[str, int]:
    """Get the version of the extension's API."""
    return {"version": VERSION}


@router.get("/model_list")
async def controlnet_model_list(cards: Cards) -> ModelListAnswer:
    """List the ControlNets of all models."""
    return ModelListAnswer(model_list=_models(cards))


@router.get("/module_list")
async def controlnet_module_list() -> ModuleListAnswer:
    """List the preprocessors: none. Control images are sent as the ControlNet reads them."""
    return ModuleListAnswer(module_list=[MODULE], module_detail=dict(MODULE_DETAIL))


@router.get("/control_types")
async def controlnet_control_types(cards: Cards) -> ControlTypesAnswer:
    """List the kinds of ControlNets: all are of one kind."""
    every = {
        "module_list": [MODULE],
        "model_list": [NO_MODEL, *_models(cards)],
        "default_option": MODULE,
        "default_model": NO_MODEL,
    }
    return ControlTypesAnswer(control_types={"All": every})


@router.get("/settings")
async def controlnet_settings() -> dict[str, int]:
    """Get the number of ControlNets that one request may use."""
    return {"control_net_unit_count": MAX_CONTROLS}


@router.post(
    "/detect",
    openapi_extra=body(
        Detection, {"controlnet_module": "none", "controlnet_input_images": [IMAGE]}
    ),
    responses=errors(*WRITE),
)
async def controlnet_detect(request: Request, services: ServicesDep) -> DetectionAnswer:
    """Return the images as they are, which is what the preprocessor none does."""
    await services.admission.count(request.scope["user"])
    asked = parse_body(Detection, await read_json(request, services.decoding))
    if asked.controlnet_module.lower() not in NOTHING:
        error = InvalidRequest("controlnet_module", asked.controlnet_module, MODULE)
        error.message = "Module not available"
        raise error
    images = asked.controlnet_input_images or asked.controlnet_images
    if not images:
        error = InvalidRequest("controlnet_input_images", None, "a list of images")
        error.message = "No image selected"
        raise error
    await to_thread.run_sync(_check_images, services, images, limiter=services.decoding)
    return DetectionAnswer(info="Success", images=[image.rpartition(",")[2] for image in images])


def _check_images(services: ServicesDep, images: list[str]) -> None:
    for i, image in enumerate(images):
        field = f"controlnet_input_images.{i}"
        services.submitter.images.open(field, decode_file(field, image))


def _models(cards: Cards) -> list[str]:
    return list(dict.fromkeys(name for card in cards.values() for name in card.controlnets))
