"""POST extra-single-image and extra-batch-images: upscaling by upscalers."""

import base64
import html

from fastapi import APIRouter, Request

from protocol.errors import InvalidRequest
from service.dialects.automatic1111.description import READ, WAIT, WRITE, body, errors
from service.dialects.automatic1111.requests import (
    ExtraImage,
    ExtraImages,
    Extras,
    parse_body,
)
from service.dialects.automatic1111.responses import ExtraImageAnswer, ExtraImagesAnswer
from service.dialects.automatic1111.timed_route import PREFIX, TimedRoute
from service.dialects.automatic1111.upscaling import upscaled
from service.dialects.lenient import read_json
from service.routes.deps import ServicesDep
from service.routes.submission import invalid_counted
from service.schemas.examples import IMAGE

router = APIRouter(prefix=PREFIX, route_class=TimedRoute, responses=errors(*READ, *WRITE, *WAIT))


@router.post(
    "/extra-single-image",
    openapi_extra=body(ExtraImage, {"image": IMAGE, "upscaler_1": "Lanczos"}),
)
async def webui_extra_single_image(request: Request, services: ServicesDep) -> ExtraImageAnswer:
    """Upscale an image."""
    async with invalid_counted(request, services):
        asked = parse_body(ExtraImage, await read_json(request, services.decoding))
        _check_supported(asked)
    file = await upscaled(asked, "image", asked.image, request, services)
    return ExtraImageAnswer(html_info=_html(asked), image=base64.b64encode(file).decode())


@router.post(
    "/extra-batch-images",
    openapi_extra=body(
        ExtraImages, {"imageList": [{"data": IMAGE, "name": "a.png"}], "upscaler_1": "Nearest"}
    ),
)
async def webui_extra_batch_images(request: Request, services: ServicesDep) -> ExtraImagesAnswer:
    """Upscale up to 16 images, one after the other."""
    async with invalid_counted(request, services):
        asked = parse_body(ExtraImages, await read_json(request, services.decoding))
        _check_supported(asked)
    files = [
        await upscaled(asked, f"imageList.{i}.data", image.data, request, services)
        for i, image in enumerate(asked.imageList)
    ]
    return ExtraImagesAnswer(
        html_info=_html(asked), images=[base64.b64encode(file).decode() for file in files]
    )


def _check_supported(asked: Extras) -> None:
    """Raise `InvalidRequest` for what would change the image and is not done here."""
    for field in ("gfpgan_visibility", "codeformer_visibility"):
        if value := getattr(asked, field):
            bound = "0: there is no face restorer here"
            raise InvalidRequest(field, value, bound, "not-supported")
    if asked.upscaling_resize <= 0:
        raise InvalidRequest("upscaling_resize", asked.upscaling_resize, "above 0", "out-of-range")


def _html(asked: Extras) -> str:
    """Return what was done as a line of HTML."""
    if asked.resize_mode:
        done = f"upscale to: {asked.upscaling_resize_w}x{asked.upscaling_resize_h}"
    else:
        done = f"upscale by: {asked.upscaling_resize:g}"
    names = html.escape(asked.upscaler_1)
    return f"<p>Postprocess {done}, Postprocess upscaler: {names}</p>"
