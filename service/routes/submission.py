"""The way of a request through any API: parse its fields, queue the job, wait, read the images.

Native routes and dialects differ in how they read a body and write an answer; the rest is here.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from anyio import to_thread
from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from protocol.errors import (
    DarkroomError,
    DeadlineExceeded,
    InvalidRequest,
    JobCancelled,
    JobLost,
    UnknownImage,
)
from protocol.queue.dialect_jobs import DialectObject
from protocol.queue.idempotency import HEADER
from protocol.queue.job import ImageResult, JobState, JobView
from protocol.queue.submission import OptionsVersion
from protocol.queue.webhooks import WebhookTarget
from protocol.request.generation_params import parse_params
from protocol.request.request import GenerationRequest
from protocol.request.tasks import Task
from service.auth.api_keys import User
from service.images.image_urls import fetch_images
from service.middleware.body_limit import LimitedBody
from service.network_addresses import parse_address
from service.outbound import OUTBOUND_ERRORS, parse_url
from service.routes.client_files import own_file
from service.routes.deps import Services
from service.routes.links import base_url_of, path_of
from service.routes.waiting import until_disconnect
from service.schemas.body_parser import Fields
from service.schemas.requests import REQUESTS, TaskRequest
from service.settings import Webhooks
from service.webhooks.sender import OUTBOUND


@dataclass(frozen=True)
class GeneratedImage:
    """A finished image: its record and the bytes of its file."""

    record: ImageResult
    data: bytes


@asynccontextmanager
async def invalid_counted(request: Request, services: Services) -> AsyncIterator[None]:
    """Count a request that raises `InvalidRequest` inside, so that its sender is limited too."""
    try:
        yield
    except InvalidRequest:
        await services.admission.count(request.scope["user"])
        raise


async def parse_task(
    task: Task, fields: Fields, request: Request, services: Services
) -> TaskRequest:
    """Fetch the images whose addresses are in `fields`, and validate all of them.

    Requests with images share a limited number of threads, because decoding needs much memory.
    """
    schema = REQUESTS[task]
    fields = await fetched(fields, request, services)
    if task.takes_image or "controls" in fields:
        return await to_thread.run_sync(parse_params, schema, fields, limiter=services.decoding)
    return parse_params(schema, fields)


async def fetched(fields: Fields, request: Request, services: Services) -> Fields:
    """Return `fields` with each address of an image replaced by its file.

    Addresses of this service are not fetched but read. Raises `InvalidRequest` and `Overloaded`.
    """

    async def read_own(field: str, url: object) -> bytes | None:
        return await own_file(field, url, request, services)

    return await fetch_images(fields, services.ssrf_guard, request.scope["limited_body"], read_own)


async def wait_for_model(request: Request, services: Services, limit_s: float) -> float:
    """Wait until a model is published, for `limit_s` seconds at most; return how long that took.

    A request cannot be checked before, so one waits whose client wants an answer at once, too. The
    body must have been read.
    """
    if await services.directory.any_published():
        return 0.0
    began = time.monotonic()
    await until_disconnect(request, services.directory.wait_until_published(limit_s))
    return time.monotonic() - began


async def submit(
    task: Task,
    params: TaskRequest,
    request: Request,
    services: Services,
    waits: bool,
    waited_s: float = 0.0,
    on_resolved: Callable[[GenerationRequest], None] | None = None,
    dialect_object: DialectObject | None = None,
    webhook: WebhookTarget | None = None,
    options: OptionsVersion | None = None,
) -> JobView:
    """Queue the job of a request and return it; `waits`: the client waits for its images.

    `waited_s`: the seconds that it has waited for a model. `on_resolved` is called with the
    complete request before the job is queued. `dialect_object` is kept with the job, and `webhook`
    takes the place of the webhook in our own form. `options`: those of the client, if the request
    was read by them; raises `OptionsChanged` if they are others now. Afterwards the body is no
    longer in memory, and the path of the job is in `scope["job"]`.
    """
    user: User = request.scope["user"]
    body: LimitedBody = request.scope["limited_body"]
    key = request.headers.get(HEADER)
    subscribe = services.watcher.subscribe if waits else None
    target = webhook or webhook_target(params.webhook_url, request, services)
    job = await services.submitter.submit(
        task,
        params,
        user,
        key,
        waited_s,
        before_queued=subscribe,
        webhook=target,
        on_resolved=on_resolved,
        dialect_object=dialect_object,
        options=options,
    )
    body.release()
    request.scope["job"] = path_of(request, "get_job", job_id=job.id)
    return job


def webhook_target(
    asked_url: str | None, request: Request, services: Services
) -> WebhookTarget | None:
    """Return the address to call when the job has ended: that of the request, else the key's.

    Raises `InvalidRequest` if the settings do not allow it.
    """
    user: User = request.scope["user"]
    allowed = services.settings.webhooks
    url = asked_url or (None if allowed is Webhooks.OFF else user.webhook_url)
    return None if url is None else allowed_target(url, request, services)


def allowed_target(url: str, request: Request, services: Services) -> WebhookTarget:
    """Return an address to call when a job has ended, in our own form.

    A dialect replaces `form` and `events`. Raises `InvalidRequest` for `webhook_url` if the address
    is none, or if the settings do not allow it.
    """
    user: User = request.scope["user"]
    allowed = services.settings.webhooks
    if allowed is Webhooks.OFF:
        bound = "left out: this service calls no webhooks"
        raise InvalidRequest("webhook_url", url, bound, "unknown-field")
    try:
        address = parse_address(parse_url(url).host)
    except OUTBOUND_ERRORS as error:
        bound = "an http or https URL with a name or an address, and a port, that can exist"
        raise InvalidRequest("webhook_url", url, bound, "webhook-not-allowed") from error
    if address is not None and not OUTBOUND[allowed](address):
        bound = "the URL of a machine that this service may call"
        raise InvalidRequest("webhook_url", url, bound, "webhook-not-allowed")
    base_url = base_url_of(request, services.settings.public_url)
    return WebhookTarget(url=url, base_url=base_url, client=user.client)


async def ended(
    request: Request,
    services: Services,
    queued: JobView,
    timeout_s: float,
    *,
    cancel_on_disconnect: bool | None = None,
) -> JobView | None:
    """Return the job when it has ended, or None after `timeout_s` seconds.

    Raises `ClientDisconnect` if the client disconnects first; the job goes on, or is cancelled, as
    the settings say if the client has not.
    """
    views = await all_ended(
        request, services, [queued], timeout_s, cancel_on_disconnect=cancel_on_disconnect
    )
    return None if views is None else views[0]


async def all_ended(
    request: Request,
    services: Services,
    queued: Sequence[JobView],
    timeout_s: float,
    *,
    cancel_on_disconnect: bool | None = None,
) -> list[JobView] | None:
    """Return jobs when all have ended, or None, as `ended` does. Raises like it."""
    cancels = services.cancels_on_disconnect(cancel_on_disconnect)
    if timeout_s <= 0:
        return None
    try:
        async with asyncio.timeout(timeout_s):
            return await until_disconnect(
                request, _all_finished(queued, services), or_end_of_input=cancels
            )
    except TimeoutError:
        return None
    except ClientDisconnect:
        # A retry with the same Idempotency-Key may wait for the same job.
        left = [one.id for one in queued if cancels and not services.watcher.waits_for(one.id)]
        if left:
            with suppress(DarkroomError):
                await run_in_threadpool(services.queue.cancel_many, left)
        raise


async def _all_finished(queued: Sequence[JobView], services: Services) -> list[JobView]:
    waiting = (services.watcher.finished(one.id, just_queued=one) for one in queued)
    return await asyncio.gather(*waiting)


def finished(view: JobView | None, timeout_s: float) -> JobView:
    """Return a job that has finished.

    Raises the error of one that has failed, `JobCancelled`, and `DeadlineExceeded` for None.
    """
    match view:
        case JobView(state=JobState.FINISHED):
            return view
        case JobView(state=JobState.FAILED, error=record):
            raise DarkroomError.from_record(record) if record else DarkroomError()
        case JobView(state=JobState.CANCELLED, id=job_id):
            raise JobCancelled(job_id)
        case _:
            raise DeadlineExceeded(timeout_s)


async def read_images(services: Services, job: JobView) -> list[GeneratedImage]:
    """Return the images of a finished job with their files. Raises `JobLost` if one is gone."""
    assert job.result

    def read() -> list[GeneratedImage]:
        assert job.result
        return [GeneratedImage(image, services.store.get(image.key)) for image in job.result.images]

    try:
        return await run_in_threadpool(read)
    except UnknownImage as missing:
        raise JobLost(job.id) from missing
