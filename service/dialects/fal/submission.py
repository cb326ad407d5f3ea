"""The submission of fal's requests, to both of its hosts."""

from dataclasses import dataclass

from fastapi import Request

from protocol.queue.dialect_jobs import DialectObject
from protocol.queue.job import JobView
from protocol.queue.webhooks import WebhookTarget
from service.dialects.fal.translation import task_of, translate
from service.dialects.lenient import read_json
from service.routes.deps import Services
from service.routes.submission import (
    allowed_target,
    invalid_counted,
    parse_task,
    submit,
    wait_for_model,
)
from service.settings import DialectName


@dataclass(frozen=True)
class FalRequest:
    """A queued request: its job, what is kept of its fields, and what its client wants if it
    disconnects."""

    job: JobView
    kept: DialectObject
    cancel_on_disconnect: bool | None


async def submit_app(
    alias: str,
    subpath: str | None,
    request: Request,
    services: Services,
    *,
    waits: bool,
    previews: bool = False,
    webhook: str | None = None,
) -> FalRequest:
    """Queue the job of a request to an app, and keep nothing else of its body.

    `waits`: the client waits for its images, or for `previews` of them. Raises `InvalidRequest` and
    its kin.
    """
    async with invalid_counted(request, services):
        fields = await read_json(request, services.decoding)
        await wait_for_model(request, services, services.settings.max_wait_s)
        task = task_of(subpath, fields)
        card = await services.submitter.models.card(task, alias)
        asked = await translate(task, card, fields, request, services)
        request.scope["field_names"] = asked.names
        params = await parse_task(task, asked.fields | {"previews": previews}, request, services)
        job = await submit(
            task,
            params,
            request,
            services,
            waits,
            dialect_object=asked.kept,
            webhook=_target(webhook, request, services),
        )
    return FalRequest(job, asked.kept, params.cancel_on_disconnect)


def _target(url: str | None, request: Request, services: Services) -> WebhookTarget | None:
    """Return the address to call in fal's form; None: that of the key, in our own."""
    if url is None:
        return None
    target = allowed_target(url, request, services)
    return target.model_copy(update={"form": DialectName.FAL.value})
