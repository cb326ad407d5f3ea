"""Version 2 of Stability's API: POST /v2beta/stable-image/…, and results by their id."""

from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Request, Response

from protocol.errors import UnknownJob
from protocol.queue.job import TERMINAL
from protocol.request.object_keys import is_job_id
from service.dialects.stability.answers import (
    V2InProgress,
    V2Started,
    accepted_by_v2,
    answer,
    v2_image,
)
from service.dialects.stability.descriptions import (
    RESULT_RESPONSES,
    STARTED_RESPONSES,
    V2_RESPONSES,
    body,
)
from service.dialects.stability.examples import ERASE, EXTEND, FAST, GENERATE, INPAINT, LARGER
from service.dialects.stability.jobs import Translate, finished_job, queued_job
from service.dialects.stability.v2_requests import (
    V2Erase,
    V2Generate,
    V2Inpaint,
    V2Outpaint,
    V2Request,
    V2Upscale,
    V2UpscaleCreative,
    V2UpscaleFast,
)
from service.dialects.stability.v2_translation import (
    NAMES,
    erase,
    generate,
    inpaint,
    outpaint,
    upscale,
    upscale_fast,
)
from service.routes.deps import Services, ServicesDep, UserDep
from service.routes.submission import finished
from service.schemas.accepted import Accepted
from service.schemas.examples import JOB
from service.schemas.response_builder import json_response
from service.settings import DialectName

R = TypeVar("R", bound=V2Request)
PREFIX = "/v2beta"
IMAGES = f"{PREFIX}/stable-image"

images = APIRouter(prefix=IMAGES, tags=[DialectName.STABILITY], responses=V2_RESPONSES)
started = APIRouter(prefix=IMAGES, tags=[DialectName.STABILITY], responses=STARTED_RESPONSES)
results = APIRouter(prefix=PREFIX, tags=[DialectName.STABILITY], responses=RESULT_RESPONSES)


@images.post("/generate/core", openapi_extra=body(V2Generate, GENERATE))
@images.post("/generate/ultra", openapi_extra=body(V2Generate, GENERATE), name="stability_ultra")
@images.post("/generate/sd3", openapi_extra=body(V2Generate, GENERATE), name="stability_sd3")
async def stability_core(request: Request, services: ServicesDep) -> Response:
    """Generate an image from a prompt, or from an image and a prompt.

    core, ultra and sd3 do the same here: `model` names the model.
    """
    return await _generate(V2Generate, generate, request, services)


@images.post("/edit/inpaint", openapi_extra=body(V2Inpaint, INPAINT))
async def stability_inpaint(request: Request, services: ServicesDep) -> Response:
    """Generate the part of an image again that a mask, or its transparency, marks."""
    return await _generate(V2Inpaint, inpaint, request, services)


@images.post("/edit/outpaint", openapi_extra=body(V2Outpaint, EXTEND))
async def stability_outpaint(request: Request, services: ServicesDep) -> Response:
    """Continue an image over its edges."""
    return await _generate(V2Outpaint, outpaint, request, services)


@images.post("/edit/erase", openapi_extra=body(V2Erase, ERASE))
async def stability_erase(request: Request, services: ServicesDep) -> Response:
    """Fill the part of an image that a mask marks from its surroundings."""
    return await _generate(V2Erase, erase, request, services)


@images.post("/upscale/fast", openapi_extra=body(V2UpscaleFast, FAST))
async def stability_upscale_fast(request: Request, services: ServicesDep) -> Response:
    """Upscale an image to four times its width and height."""
    return await _generate(V2UpscaleFast, upscale_fast, request, services)


@images.post("/upscale/conservative", openapi_extra=body(V2Upscale, LARGER))
async def stability_upscale_conservative(request: Request, services: ServicesDep) -> Response:
    """Upscale an image to four megapixels and change it a little, in tiles, by a prompt."""
    return await _generate(V2Upscale, upscale, request, services)


@started.post("/upscale/creative", openapi_extra=body(V2UpscaleCreative, LARGER))
async def stability_upscale_creative(request: Request, services: ServicesDep) -> Response:
    """Begin to upscale an image as conservative does, and return the id of the result."""
    queued = await queued_job(
        V2UpscaleCreative, upscale, NAMES, Accepted(), request, services, waits=False
    )
    return json_response(V2Started(id=queued.id))


ResultId = Annotated[str, Path(examples=[JOB])]


@results.get("/results/{result_id}")
@results.get("/stable-image/upscale/creative/result/{result_id}", name="stability_creative_result")
async def stability_result(
    result_id: ResultId, request: Request, services: ServicesDep, user: UserDep
) -> Response:
    """Get the image of a job of this key; 202 while it has not ended."""
    accepted = accepted_by_v2(request.headers)
    if not is_job_id(result_id):
        raise UnknownJob(result_id)
    job = await services.watcher.view(result_id, user.owner)
    if job.state not in TERMINAL:
        return json_response(V2InProgress(id=job.id), 202)
    return await answer(finished(job, 0), accepted, v2_image, services)


async def _generate(
    kind: type[R], translate: Translate[R], request: Request, services: Services
) -> Response:
    accepted = accepted_by_v2(request.headers)
    queued = await queued_job(kind, translate, NAMES, accepted, request, services)
    job = await finished_job(queued, request, services)
    return await answer(job, accepted, v2_image, services)
