"""Hugging Face's routes: POST /models/{model} and /hf-inference/models/{model}."""

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.errors import JobLost, UnknownImage
from protocol.queue.job import JobView
from service.dialects.huggingface.descriptions import BODY, RESPONSES
from service.dialects.huggingface.errors import LOADING_ERRORS
from service.dialects.huggingface.requests import read_request
from service.dialects.huggingface.translation import translate
from service.dialects.model_paths import ModelPath, OwnerPath
from service.routes.deps import Services, ServicesDep
from service.routes.submission import (
    ended,
    finished,
    invalid_counted,
    parse_task,
    submit,
    wait_for_model,
)
from service.schemas.accepted import Accepted
from service.schemas.file_responses import answer_with_image
from service.settings import DialectName

# Seconds after which a request without a model gets its 503. A client that repeats it at once, as
# @huggingface/inference does, sends no more requests than one in this time.
LOADING_WAIT_S = 2.0

router = APIRouter(tags=[DialectName.HUGGINGFACE], responses=RESPONSES)


@router.post("/models/{owner}/{model}", response_class=Response, openapi_extra=BODY)
async def hugging_face_model(
    request: Request, owner: OwnerPath, model: ModelPath, services: ServicesDep
) -> Response:
    """Generate an image of a prompt, or of an image, as Hugging Face's inference API does."""
    return await _infer(model, request, services)


@router.post("/models/{model}", response_class=Response, openapi_extra=BODY)
async def hugging_face_model_without_owner(
    request: Request, model: ModelPath, services: ServicesDep
) -> Response:
    """Generate an image by a model whose id has no owner."""
    return await _infer(model, request, services)


@router.post("/hf-inference/models/{owner}/{model}", response_class=Response, openapi_extra=BODY)
async def hugging_face_router_model(
    request: Request, owner: OwnerPath, model: ModelPath, services: ServicesDep
) -> Response:
    """Generate an image at the path of Hugging Face's router."""
    return await _infer(model, request, services)


@router.post("/hf-inference/models/{model}", response_class=Response, openapi_extra=BODY)
async def hugging_face_router_model_without_owner(
    request: Request, model: ModelPath, services: ServicesDep
) -> Response:
    """Generate an image at the path of the router, by a model whose id has no owner."""
    return await _infer(model, request, services)


@dataclass(frozen=True)
class _Queued:
    """A queued job, and what happens to it if its client disconnects."""

    job: JobView
    cancel_on_disconnect: bool | None


async def _infer(model: str, request: Request, services: Services) -> Response:
    queued = await _submit(model, request, services)
    timeout_s = services.settings.max_wait_s
    view = await ended(
        request,
        services,
        queued.job,
        timeout_s,
        cancel_on_disconnect=queued.cancel_on_disconnect,
    )
    job = finished(view, timeout_s)
    try:
        return await run_in_threadpool(answer_with_image, services.store, job)
    except UnknownImage as missing:
        raise JobLost(job.id) from missing


async def _submit(model: str, request: Request, services: Services) -> _Queued:
    """Queue the job, and keep nothing else of the body."""
    async with invalid_counted(request, services):
        accepted = Accepted.from_headers(request.headers)
        asked = await read_request(request, services.decoding)
        max_wait_s = services.settings.max_wait_s
        limit_s = max_wait_s if asked.waits else min(max_wait_s, LOADING_WAIT_S)
        waited_s = await wait_for_model(request, services, limit_s)
        if waited_s > limit_s / 2:  # else it is in vain; a timer may be early
            request.scope["error_format"] = LOADING_ERRORS
        card = await services.submitter.models.card(asked.task, model)
        fields, request.scope["field_names"] = await translate(asked, card, services)
        params = await parse_task(asked.task, fields, request, services)
        job = await submit(asked.task, accepted.applied_to(params), request, services, waits=True)
    return _Queued(job, params.cancel_on_disconnect)
