"""The way of a request through this dialect: read, translate, queue, wait."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from fastapi import Request

from protocol.queue.job import JobView
from service.dialects.stability.bodies import read_fields
from service.dialects.stability.fields import StabilityRequest, parsed
from service.dialects.stability.translation import Translation
from service.routes.deps import Services
from service.routes.submission import (
    ended,
    finished,
    invalid_counted,
    parse_task,
    submit,
    wait_for_model,
)
from service.schemas.accepted import Accepted

R = TypeVar("R", bound=StabilityRequest)
Translate = Callable[[R, Request, Services], Awaitable[Translation]]


async def queued_job(
    kind: type[R],
    translate: Translate[R],
    names: Mapping[str, str],
    accepted: Accepted,
    request: Request,
    services: Services,
    *,
    waits: bool = True,
) -> JobView:
    """Queue the job of a request and return it, and keep nothing else of the body.

    `names` are the client's names of our fields, `accepted` the form of the answer; `waits`: the
    client waits for its images. Raises `InvalidRequest` and other errors.
    """
    request.scope["field_names"] = names
    async with invalid_counted(request, services):
        fields = await read_fields(request, kind.model_fields, services)
        asked = await parsed(kind, fields, services)
        await wait_for_model(request, services, services.settings.max_wait_s)
        translation = await translate(asked, request, services)
        request.scope["field_names"] = translation.names
        task = translation.task
        params = accepted.applied_to(await parse_task(task, translation.fields, request, services))
        return await submit(task, params, request, services, waits)


async def finished_job(queued: JobView, request: Request, services: Services) -> JobView:
    """Return a job when it has finished. Raises its error, and `DeadlineExceeded`."""
    timeout_s = services.settings.max_wait_s
    return finished(await ended(request, services, queued, timeout_s), timeout_s)
