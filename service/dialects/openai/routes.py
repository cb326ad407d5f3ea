"""OpenAI's routes: POST /v1/images/generations, edits and variations."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from protocol.errors import JobLost, UnknownImage
from protocol.queue.job import JobView
from protocol.request.inpainting import InpaintArea
from protocol.request.sizes import Size, target_size
from service.dialects.event_stream import encoded
from service.dialects.lenient import read_json
from service.dialects.openai.answers import Answer, Usage
from service.dialects.openai.descriptions import (
    EDITS_BODY,
    GENERATIONS_BODY,
    IMAGES_RESPONSES,
    VARIATIONS_BODY,
)
from service.dialects.openai.requests import (
    EditsRequest,
    GenerationsRequest,
    ImagesRequest,
    VariationsRequest,
    parse_request,
)
from service.dialects.openai.stream import events
from service.dialects.openai.translation import (
    NAMES,
    Translation,
    translate_edit,
    translate_generation,
)
from service.dialects.openai.uploads import read_upload
from service.routes.deps import ResponsesDep, Services, ServicesDep
from service.routes.submission import (
    ended,
    finished,
    invalid_counted,
    parse_task,
    submit,
    wait_for_model,
)
from service.schemas.file_responses import WARNINGS_HEADER, warnings_header
from service.schemas.requests import ResponseKind, TaskRequest
from service.schemas.response_builder import ResponseBuilder
from service.settings import DialectName

GENERATION, EDIT = "image_generation", "image_edit"  # in the names of events

router = APIRouter(prefix="/v1/images", tags=[DialectName.OPENAI], responses=IMAGES_RESPONSES)
Read = Callable[[Request, Services], Awaitable[tuple[ImagesRequest, Translation]]]


@router.post("/generations", openapi_extra=GENERATIONS_BODY)
async def openai_generations(
    request: Request, services: ServicesDep, responses: ResponsesDep
) -> Response:
    """Generate images of a prompt, as OpenAI's clients ask for it."""
    return await _respond(_read_generation, GENERATION, request, services, responses)


@router.post("/edits", openapi_extra=EDITS_BODY)
async def openai_edits(
    request: Request, services: ServicesDep, responses: ResponsesDep
) -> Response:
    """Change an image by a prompt: where the mask is fully transparent, without a mask everywhere.

    Several images are put side by side and changed as one.
    """
    return await _respond(_reading_edit(EditsRequest), EDIT, request, services, responses)


@router.post("/variations", openapi_extra=VARIATIONS_BODY)
async def openai_variations(
    request: Request, services: ServicesDep, responses: ResponsesDep
) -> Response:
    """Generate images like another, without a prompt."""
    return await _respond(_reading_edit(VariationsRequest), EDIT, request, services, responses)


async def _read_generation(
    request: Request, services: Services
) -> tuple[ImagesRequest, Translation]:
    fields = await read_json(request, services.decoding)
    asked = parse_request(GenerationsRequest, fields)
    await wait_for_model(request, services, services.settings.max_wait_s)
    return asked, await translate_generation(asked, fields, services)


def _reading_edit(kind: type[ImagesRequest]) -> Read:
    async def read(request: Request, services: Services) -> tuple[ImagesRequest, Translation]:
        files = await read_upload(request, services)
        asked = parse_request(kind, files.fields)
        await wait_for_model(request, services, services.settings.max_wait_s)
        return asked, await translate_edit(asked, files, services)

    return read


async def _respond(
    read: Read, event: str, request: Request, services: Services, responses: ResponseBuilder
) -> Response:
    queued, answer, size = await _submit(read, event, request, services)
    if answer.asked.stream:
        stream = events(request, services, responses, queued, answer, size)
        return StreamingResponse(encoded(stream), media_type=EventSourceResponse.media_type)
    timeout_s = services.settings.max_wait_s
    view = await ended(
        request, services, queued, timeout_s, cancel_on_disconnect=answer.cancel_on_disconnect
    )
    job = finished(view, timeout_s)
    kind = ResponseKind.URL if answer.asked.wants_urls else ResponseKind.BASE64
    try:
        images = await run_in_threadpool(responses.images, job, kind)
    except UnknownImage as missing:
        raise JobLost(job.id) from missing
    body = answer.images(images).model_dump_json(exclude_none=True)
    headers = {WARNINGS_HEADER: warnings_header(job)} if job.warnings else {}
    return Response(body, headers=headers, media_type="application/json")


async def _submit(
    read: Read, event: str, request: Request, services: Services
) -> tuple[JobView, Answer, Size]:
    """Queue the job; return it with what its answer needs, and keep nothing else of the body."""
    async with invalid_counted(request, services):
        asked, translation = await read(request, services)
        request.scope["field_names"] = NAMES | translation.names
        params = await parse_task(translation.task, translation.fields, request, services)
        queued = await submit(translation.task, params, request, services, waits=True)
    usage = _usage(translation, params, services)
    answer = Answer(asked, event, usage, params.cancel_on_disconnect)
    return queued, answer, _size(translation, params)


def _usage(translation: Translation, params: TaskRequest, services: Services) -> Usage:
    """Return the tokens of the prompts. The tokenizer is in memory, as the prompts are checked."""
    if not translation.card.reads_prompts:
        return Usage()
    count = services.submitter.tokens.for_model(translation.card)
    return Usage.of(count(params.prompt) + count(params.negative_prompt))


def _size(translation: Translation, params: TaskRequest) -> Size:
    """Return the size of the images, as far as it is known before they are generated."""
    sides = (params.width, params.height)
    keeps_size = sides == (None, None) or params.tile_size is not None
    if translation.image_size and (keeps_size or params.inpaint_area is InpaintArea.MASKED):
        return translation.image_size
    return target_size(sides, translation.card, translation.image_size)
