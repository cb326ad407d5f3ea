"""POST /v1/txt2img and the like, a route for each task: accept a job, bring its pictures."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from protocol.errors import DarkroomError, DeadlineExceeded, JobCancelled
from protocol.queue.idempotency import HEADER
from protocol.queue.job import JobState, JobView
from protocol.request.generation_params import parse_params
from protocol.request.tasks import Task
from service.auth.api_keys import User
from service.middleware.body_limit import Upload
from service.routes.deps import AnswersDep, Services, ServicesDep
from service.schemas.body_parser import read_fields
from service.schemas.preferences import Preferences
from service.schemas.problems import DOOR, documented, problem_response
from service.schemas.requests import BODIES, ResponseKind, request_body
from service.schemas.responses import Answers, GenerationAnswer, JobAnswer, json_response

router = APIRouter(prefix="/v1", tags=["pictures"])

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": GenerationAnswer, "description": "The pictures."},
    202: {
        "model": JobAnswer,
        "description": "Accepted; asked for by `Prefer: respond-async`.",
        "headers": {
            "Location": {"description": "The job.", "schema": {"type": "string"}},
            "Preference-Applied": {"schema": {"type": "string"}},
        },
    },
    **documented(*DOOR, 400, 408, 409, 413, 415, 422, 500, 503),
    504: {
        **documented(504)[504],
        "description": "The pictures take longer than a client may wait; `job` says where to look.",
    },
}


@router.post("/txt2img", openapi_extra=request_body(Task.TXT2IMG), responses=ANSWERS)
async def txt2img(request: Request, services: ServicesDep, answers: AnswersDep) -> Response:
    """Draw pictures from a prompt.

    The answer comes with the pictures, or at once with a job if the header `Prefer: respond-async`
    asks for that; `Prefer: respond-async, wait=10` waits ten seconds first. Who waits longer than
    the service allows gets a 504 that names the job. A client that goes away loses nothing: the job
    is finished, and can be asked for. Sent again with the same `Idempotency-Key` (any text of the
    client's own, kept for a day), a request is the same job, and its answer that of the first try.
    """
    return await _generate(Task.TXT2IMG, request, services, answers)


@router.post("/img2img", openapi_extra=request_body(Task.IMG2IMG), responses=ANSWERS)
async def img2img(request: Request, services: ServicesDep, answers: AnswersDep) -> Response:
    """Draw pictures from an image and a prompt; `strength`: how far to leave the image behind."""
    return await _generate(Task.IMG2IMG, request, services, answers)


@router.post("/inpaint", openapi_extra=request_body(Task.INPAINT), responses=ANSWERS)
async def inpaint(request: Request, services: ServicesDep, answers: AnswersDep) -> Response:
    """Repaint the white part of a mask, and keep the rest of the image.

    The prompt may be left out where the model reads no words.
    """
    return await _generate(Task.INPAINT, request, services, answers)


@router.post("/upscale", openapi_extra=request_body(Task.UPSCALE), responses=ANSWERS)
async def upscale(request: Request, services: ServicesDep, answers: AnswersDep) -> Response:
    """Draw an image larger, by the model's `upscale_factor`."""
    return await _generate(Task.UPSCALE, request, services, answers)


@router.post("/unconditional", openapi_extra=request_body(Task.UNCONDITIONAL), responses=ANSWERS)
async def unconditional(request: Request, services: ServicesDep, answers: AnswersDep) -> Response:
    """Draw what the model was trained on: faces, churches, bedrooms."""
    return await _generate(Task.UNCONDITIONAL, request, services, answers)


@router.post("/class", openapi_extra=request_body(Task.CLASS), responses=ANSWERS)
async def of_class(request: Request, services: ServicesDep, answers: AnswersDep) -> Response:
    """Draw something of one of the model's classes."""
    return await _generate(Task.CLASS, request, services, answers)


@router.post("/layout", openapi_extra=request_body(Task.LAYOUT), responses=ANSWERS)
async def layout(request: Request, services: ServicesDep, answers: AnswersDep) -> Response:
    """Draw things of the model's classes where boxes say."""
    return await _generate(Task.LAYOUT, request, services, answers)


@router.post("/semantic", openapi_extra=request_body(Task.SEMANTIC), responses=ANSWERS)
async def semantic(request: Request, services: ServicesDep, answers: AnswersDep) -> Response:
    """Draw a picture from a map that says of every pixel which class is there."""
    return await _generate(Task.SEMANTIC, request, services, answers)


async def _generate(task: Task, request: Request, services: Services, answers: Answers) -> Response:
    preferences = Preferences.of(request.headers)
    patience_s = preferences.patience_s(services.settings.max_wait_s)
    job_id, kind = await _accept(task, request, services, waits=patience_s > 0)
    location = str(request.app.url_path_for("get_job", job_id=job_id))
    view = await _unless_client_leaves(request, _finished(services, job_id, patience_s))
    match view:
        case JobView(state=JobState.FINISHED):
            pictures = await run_in_threadpool(answers.pictures, view, kind)
            return json_response(pictures)
        case JobView(state=JobState.FAILED, error=why):
            error = DarkroomError.from_record(why) if why else DarkroomError()
            return problem_response(request, error, location)
        case JobView(state=JobState.CANCELLED):
            return problem_response(request, JobCancelled(job_id), location)
        case _ if preferences.respond_async:
            now = await services.watcher.now(job_id)
            headers = {"Location": location, "Preference-Applied": "respond-async"}
            return json_response(await answers.job(now), 202, headers)
        case _:
            return problem_response(request, DeadlineExceeded(patience_s), location)


async def _accept(
    task: Task, request: Request, services: Services, waits: bool
) -> tuple[str, ResponseKind]:
    """Read, validate and queue; afterwards nothing of the body is kept. `waits`: for the pictures.

    Requests with images share a few threads, for decoding needs memory.
    """
    visitor: User = request.scope["user"]
    upload: Upload = request.scope["upload"]
    fields = await read_fields(request, BODIES[task], services.decoding)
    fields = await services.fetching.filled(fields, upload)
    if task.takes_image or "controls" in fields:
        body = await to_thread.run_sync(
            parse_params, BODIES[task], fields, limiter=services.decoding
        )
    else:
        body = parse_params(BODIES[task], fields)
    image, mask = getattr(body, "image", None), getattr(body, "mask", None)
    controls = [control.image for control in body.controls or ()]
    key = request.headers.get(HEADER)
    expect = services.watcher.expect if waits else None
    job_id = await services.generation.submit(
        task, body, visitor, key, image=image, mask=mask, controls=controls, expect=expect
    )
    upload.let_go()
    return job_id, body.response


async def _finished(services: Services, job_id: str, patience_s: float) -> JobView | None:
    """The job once it has ended, or None if that takes too long."""
    if patience_s <= 0:
        return None
    try:
        async with asyncio.timeout(patience_s):
            return await services.watcher.finished(job_id, fresh=True)
    except TimeoutError:
        return None


async def _unless_client_leaves(
    request: Request, waiting: Coroutine[Any, Any, JobView | None]
) -> JobView | None:
    """The outcome of `waiting`; given up by `ClientDisconnect`, while the job itself goes on."""
    wait = asyncio.ensure_future(waiting)
    leave = asyncio.ensure_future(_client_left(request))
    try:
        await asyncio.wait((wait, leave), return_when=asyncio.FIRST_COMPLETED)
        if not wait.done():
            raise ClientDisconnect
        return wait.result()
    finally:
        for task in (wait, leave):
            task.cancel()
        await asyncio.gather(wait, leave, return_exceptions=True)


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
