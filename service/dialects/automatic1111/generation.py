"""POST txt2img and img2img: a job, and its images when it has ended."""

import asyncio
import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, BackgroundTasks, Request, Response

from protocol.clients.options import ChosenOptions
from protocol.clients.tasks import ClientTask
from protocol.errors import DarkroomError, JobCancelled
from protocol.queue.job import JobView
from protocol.request.request import GenerationRequest
from service.dialects.automatic1111.description import READ, WAIT, WRITE, body, errors
from service.dialects.automatic1111.info import image_texts, info_json, info_of, parameters_of
from service.dialects.automatic1111.options import effective_options, model_named
from service.dialects.automatic1111.requests import (
    Generation,
    ImageToImage,
    TextToImage,
    parse_body,
)
from service.dialects.automatic1111.responses import GenerationAnswer
from service.dialects.automatic1111.timed_route import PREFIX, TimedRoute
from service.dialects.automatic1111.translation import CLIENT_NAMES, task_of, translate
from service.dialects.lenient import read_json
from service.routes.deps import Services, ServicesDep
from service.routes.submission import (
    GeneratedImage,
    ended,
    finished,
    invalid_counted,
    parse_task,
    read_images,
    submit,
    wait_for_model,
)
from service.schemas.examples import IMAGE
from service.schemas.response_builder import check_base64

router = APIRouter(prefix=PREFIX, route_class=TimedRoute, responses=errors(*READ, *WRITE, *WAIT))

G = TypeVar("G", bound=Generation)


@dataclass(frozen=True)
class Accepted:
    """A queued job, and what its answer needs of the request; not the files, unless asked for.

    `parameters_json` and `info_json` are those parts of the answer, written while the worker
    generates.
    """

    job: JobView
    task: ClientTask
    request: GenerationRequest
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
    """Queue the job and wait for it. A job that was interrupted has no images, and no error."""
    accepted = await _accepted(kind, request, services)
    client, timeout_s = request.scope["user"].client, services.settings.max_wait_s
    # Beside the waiting, and after the answer, so that no client waits for its task to be noted.
    begun = asyncio.ensure_future(services.tasks.begin(client, accepted.task))
    try:
        view = await ended(request, services, accepted.job, timeout_s)
    finally:
        await begun
    if view is not None:  # else the job goes on, and can be interrupted
        after.add_task(services.tasks.end, client, accepted.task)
    try:
        job = finished(view, timeout_s)
    except JobCancelled:
        return _answer(accepted, ())
    assert job.result
    check_base64(job.result)
    return _answer(accepted, await read_images(services, job))


async def _accepted(kind: type[G], request: Request, services: Services) -> Accepted:
    """Read and translate the body, and queue the job."""
    resolved: list[GenerationRequest] = []
    async with invalid_counted(request, services):
        asked = parse_body(kind, await read_json(request, services.decoding))
        await wait_for_model(request, services, services.settings.max_wait_s)
        job = await _queue(asked, request, services, resolved)
    parameters = parameters_of(asked, resolved[0])
    request.scope["limited_body"].reserve(sum(map(len, image_texts(parameters))))
    seeds = [*map(resolved[0].image_seed, range(resolved[0].n))]
    info = info_of(parameters, resolved[0], seeds)
    return Accepted(
        job,
        _task(asked, job),
        resolved[0],
        parameters,
        json.dumps(parameters, ensure_ascii=False).encode(),
        info,
        info_json(info),
        asked.send_images,
    )


async def _queue(
    asked: Generation, request: Request, services: Services, resolved: list[GenerationRequest]
) -> JobView:
    """Queue the job, by the options that this process has seen last, or else by newer ones."""
    chosen = services.options.last_seen(request.scope["user"].client)
    while True:
        try:
            return await _submit(asked, chosen, request, services, resolved)
        except DarkroomError:  # newer options may be why, or make it right
            before, chosen = chosen, await services.options.read(chosen.client)
            if chosen == before:
                raise


async def _submit(
    asked: Generation,
    chosen: ChosenOptions,
    request: Request,
    services: Services,
    resolved: list[GenerationRequest],
) -> JobView:
    """Queue the job, and put its complete request into `resolved`."""
    request.scope["field_names"] = CLIENT_NAMES
    options = effective_options(chosen.values, asked)
    task, models = task_of(asked), services.submitter.models
    title = options.sd_model_checkpoint
    model = model_named(title, await models.cards()) if title else None
    translated = translate(asked, options, model, await models.card(task, model))
    request.scope["field_names"] = translated.names
    params = await parse_task(task, translated.fields, request, services)
    resolved.clear()
    return await submit(
        task,
        params,
        request,
        services,
        waits=True,
        on_resolved=resolved.append,
        options=chosen.expected,
    )


def _task(asked: Generation, queued: JobView) -> ClientTask:
    """Return the job as a task of its client, for progress and interruption."""
    kind = "img2img" if isinstance(asked, ImageToImage) else "txt2img"
    suffix = base64.b32encode(secrets.token_bytes(5)).decode()[:7]
    task_id = asked.force_task_id or f"task({kind}-{suffix})"
    return ClientTask(id=task_id, job_id=queued.id, kind=f"scripts_{kind}")


def _answer(accepted: Accepted, images: Sequence[GeneratedImage]) -> Response:
    info, written = accepted.info, accepted.info_json
    if images:
        seeds, first = [image.record.seed for image in images], images[0].record
        if seeds != info["all_seeds"]:  # a retry got the job of an earlier request
            info = info_of(accepted.parameters, accepted.request, seeds)
        info = {**info, "width": first.width, "height": first.height}
        written = written if info == accepted.info else info_json(info)
    sent = images if accepted.send_images else ()
    files = json.dumps([base64.b64encode(image.data).decode() for image in sent]).encode()
    body = b'{"images":%b,"parameters":%b,"info":%b}' % (files, accepted.parameters_json, written)
    return Response(body, media_type="application/json")
