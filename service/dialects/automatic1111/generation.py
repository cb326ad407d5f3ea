"""POST txt2img and img2img: jobs, and their images when they have ended."""

import asyncio
import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, BackgroundTasks, Request, Response

from protocol.clients.tasks import ClientTask
from protocol.errors import JobCancelled
from protocol.queue.job import JobView
from service.dialects.automatic1111.description import READ, WAIT, WRITE, body, errors
from service.dialects.automatic1111.info import image_texts, info_json, info_of, parameters_of
from service.dialects.automatic1111.queueing import Queued, queued
from service.dialects.automatic1111.requests import (
    Generation,
    ImageToImage,
    TextToImage,
    parse_body,
)
from service.dialects.automatic1111.responses import GenerationAnswer
from service.dialects.automatic1111.timed_route import PREFIX, TimedRoute
from service.dialects.lenient import read_json
from service.routes.deps import Services, ServicesDep
from service.routes.submission import (
    GeneratedImage,
    all_ended,
    finished,
    invalid_counted,
    read_images,
    wait_for_model,
)
from service.schemas.examples import IMAGE
from service.schemas.response_builder import check_base64

router = APIRouter(prefix=PREFIX, route_class=TimedRoute, responses=errors(*READ, *WRITE, *WAIT))

G = TypeVar("G", bound=Generation)


@dataclass(frozen=True)
class Accepted:
    """A queued request, and what its answer needs of it; not the files, unless asked for.

    `parameters_json` and `info_json` are those parts of the answer, written while the worker
    generates.
    """

    queued: Queued
    task: ClientTask
    parameters: Mapping[str, Any]
    parameters_json: bytes
    info: Mapping[str, Any]
    info_json: bytes
    send_images: bool


@router.post(
    "/txt2img",
    response_model=GenerationAnswer,
    openapi_extra=body(TextToImage, {"prompt": "a slice of pizza", "steps": 20, "batch_size": 2}),
)
async def webui_txt2img(
    request: Request, services: ServicesDep, after: BackgroundTasks
) -> Response:
    """Generate images from a prompt, as AUTOMATIC1111's `/sdapi/v1/txt2img` does."""
    return await _generate(TextToImage, request, services, after)


@router.post(
    "/img2img",
    response_model=GenerationAnswer,
    openapi_extra=body(ImageToImage, {"prompt": "a slice of pizza", "init_images": [IMAGE]}),
)
async def webui_img2img(
    request: Request, services: ServicesDep, after: BackgroundTasks
) -> Response:
    """Generate images from an image, or inpaint it where `mask` is white."""
    return await _generate(ImageToImage, request, services, after)


async def _generate(
    kind: type[G], request: Request, services: Services, after: BackgroundTasks
) -> Response:
    """Queue the jobs and wait for them. A request that was interrupted has no images, no error."""
    accepted = await _accepted(kind, request, services)
    client, timeout_s = request.scope["user"].client, services.settings.max_wait_s
    # Beside the waiting, and after the answer, so that no client waits for its task to be noted.
    begun = asyncio.ensure_future(services.tasks.begin(client, accepted.task))
    try:
        views = await all_ended(request, services, accepted.queued.jobs, timeout_s)
    finally:
        await begun
    if views is not None:  # else the jobs go on, and can be interrupted
        after.add_task(services.tasks.end, client, accepted.task)
    try:
        jobs = [finished(view, timeout_s) for view in (views or (None,))]
    except JobCancelled:
        return _answer(accepted, ())
    return _answer(accepted, await _images(services, jobs))


async def _images(services: Services, jobs: Sequence[JobView]) -> list[GeneratedImage]:
    """Return the images of finished jobs. Raises `InvalidRequest` if they are too large."""
    results = [job.result for job in jobs if job.result]
    check_base64([image for result in results for image in result.images])
    return [image for job in jobs for image in await read_images(services, job)]


async def _accepted(kind: type[G], request: Request, services: Services) -> Accepted:
    """Read and translate the body, and queue the jobs."""
    async with invalid_counted(request, services):
        asked = parse_body(kind, await read_json(request, services.decoding))
        await wait_for_model(request, services, services.settings.max_wait_s)
        found = await queued(asked, request, services)
    parameters = parameters_of(asked, found.images[0][0])
    request.scope["limited_body"].reserve(sum(map(len, image_texts(parameters))))
    info = info_of(parameters, found.images)
    return Accepted(
        found,
        _task(asked, found.jobs),
        parameters,
        json.dumps(parameters, ensure_ascii=False).encode(),
        info,
        info_json(info),
        asked.send_images,
    )


def _task(asked: Generation, jobs: Sequence[JobView]) -> ClientTask:
    """Return the jobs as a task of their client, for progress and interruption."""
    kind = "img2img" if isinstance(asked, ImageToImage) else "txt2img"
    suffix = base64.b32encode(secrets.token_bytes(5)).decode()[:7]
    task_id = asked.force_task_id or f"task({kind}-{suffix})"
    return ClientTask(id=task_id, job_ids=tuple(job.id for job in jobs), kind=f"scripts_{kind}")


def _answer(accepted: Accepted, images: Sequence[GeneratedImage]) -> Response:
    info, written = accepted.info, accepted.info_json
    if images:
        seeds, first = [image.record.seed for image in images], images[0].record
        if seeds != info["all_seeds"]:  # a retry got the jobs of an earlier request
            requests = [request for request, _ in accepted.queued.images]
            info = info_of(accepted.parameters, [*zip(requests, seeds, strict=True)])
        info = {**info, "width": first.width, "height": first.height}
        written = written if info == accepted.info else info_json(info)
    sent = images if accepted.send_images else ()
    files = json.dumps([base64.b64encode(image.data).decode() for image in sent]).encode()
    body = b'{"images":%b,"parameters":%b,"info":%b}' % (files, accepted.parameters_json, written)
    return Response(body, media_type="application/json")
