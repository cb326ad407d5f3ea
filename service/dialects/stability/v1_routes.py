"""Version 1 of Stability's API: POST /v1/generation/{engine_id}/…"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Request, Response

from service.dialects.stability.answers import answer, artifacts
from service.dialects.stability.descriptions import V1_RESPONSES, body
from service.dialects.stability.examples import (
    IMAGE_TO_IMAGE,
    MASKING,
    TEXT_TO_IMAGE,
    UPSCALE,
)
from service.dialects.stability.jobs import finished_job, queued_job
from service.dialects.stability.translation import Translation
from service.dialects.stability.v1_requests import (
    V1ImageToImage,
    V1Masking,
    V1Request,
    V1TextToImage,
    V1Upscale,
)
from service.dialects.stability.v1_translation import (
    NAMES,
    OF_IMAGES,
    image_to_image,
    masking,
    text_to_image,
    upscale,
)
from service.routes.deps import Services, ServicesDep
from service.schemas.accepted import Accepted
from service.settings import DialectName

router = APIRouter(
    prefix="/v1/generation/{engine_id}", tags=[DialectName.STABILITY], responses=V1_RESPONSES
)

R = TypeVar("R", bound=V1Request)
Translate = Callable[[R, str, Request, Services], Awaitable[Translation]]
MAX_NAME = 200
Engine = Annotated[
    str,
    Path(
        max_length=MAX_NAME,
        description="A model of /v1/engines/list. The names of Stability's models mean the "
        "default model.",
        examples=["stable-diffusion-v1-6"],
    ),
]
Upscaler = Annotated[
    str,
    Path(
        max_length=MAX_NAME,
        description="An upscaler or a model of /v1/engines/list; esrgan-v1-x2plus means the "
        "first upscaler that the operator has added.",
        examples=["lanczos"],
    ),
]


@router.post("/text-to-image", openapi_extra=body(V1TextToImage, TEXT_TO_IMAGE))
async def stability_text_to_image(
    engine_id: Engine, request: Request, services: ServicesDep
) -> Response:
    """Generate images from prompts."""
    return await _generate(V1TextToImage, text_to_image, NAMES, engine_id, request, services)


@router.post("/image-to-image", openapi_extra=body(V1ImageToImage, IMAGE_TO_IMAGE))
async def stability_image_to_image(
    engine_id: Engine, request: Request, services: ServicesDep
) -> Response:
    """Generate images from an image and prompts."""
    return await _generate(V1ImageToImage, image_to_image, OF_IMAGES, engine_id, request, services)


@router.post("/image-to-image/masking", openapi_extra=body(V1Masking, MASKING))
async def stability_masking(engine_id: Engine, request: Request, services: ServicesDep) -> Response:
    """Generate the part of an image again that a mask, or its transparency, marks."""
    return await _generate(V1Masking, masking, OF_IMAGES, engine_id, request, services)


@router.post("/image-to-image/upscale", openapi_extra=body(V1Upscale, UPSCALE))
async def stability_upscale(
    engine_id: Upscaler, request: Request, services: ServicesDep
) -> Response:
    """Upscale an image, by default to twice its width and height."""
    return await _generate(V1Upscale, upscale, NAMES, engine_id, request, services)


async def _generate(
    kind: type[R],
    translate: Translate[R],
    names: Mapping[str, str],
    engine: str,
    request: Request,
    services: Services,
) -> Response:
    async def translated(asked: R, request: Request, services: Services) -> Translation:
        return await translate(asked, engine, request, services)

    accepted = Accepted.from_headers(request.headers)
    queued = await queued_job(kind, translated, names, accepted, request, services)
    job = await finished_job(queued, request, services)
    return await answer(job, accepted, artifacts, services)
