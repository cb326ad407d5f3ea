"""The way of a prediction: read its request, queue the job, wait as long as its client asks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from protocol.errors import NotReady
from protocol.queue.job import JobView
from protocol.queue.webhooks import WebhookTarget
from protocol.request.loras.defaults import with_lora_defaults
from protocol.request.loras.resolution import resolve_loras
from protocol.request.model_card import ModelCard
from service.auth.api_keys import User
from service.dialects.lenient import number, read_json
from service.dialects.replicate.inputs import kept_input, translate
from service.dialects.replicate.names import ModelName, version_id
from service.dialects.replicate.predictions import (
    Prediction,
    PredictionBuilder,
    PredictionData,
    Status,
)
from service.dialects.replicate.requests import PredictionRequest, parse_request
from service.routes.deps import Services
from service.routes.links import base_url_of
from service.routes.submission import (
    allowed_target,
    ended,
    invalid_counted,
    parse_task,
    submit,
    wait_for_model,
)
from service.schemas.body_parser import Fields
from service.settings import DialectName

MOST_WAIT_S = 60.0  # that a client may ask for
# The Python client stops reading half a second after the time for which it asks to wait.
MARGIN_S = 0.5
PATIENCE_S = 25.0  # for a first model, of a client that does not wait; it reads for 30 s


# From a request's fields and the cards of all models; it raises `InvalidRequest` or `UnknownModel`.
FindModel = Callable[[Fields, Mapping[str, ModelCard]], tuple[ModelName, ModelCard]]


@dataclass(frozen=True)
class Queued:
    """A queued prediction and the seconds for which its client still waits."""

    job: JobView
    wait_s: float


def wait_of(headers: Headers) -> float | None:
    """Return the seconds for which a client waits for its images; None: it does not."""
    parts = ",".join(headers.getlist("prefer")).split(",")
    for part in parts:
        name, _, value = part.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            asked = number(value.strip().strip('"'))
            wait_s = float(asked) if isinstance(asked, int | float) else MOST_WAIT_S
            return max(0.0, min(wait_s, MOST_WAIT_S) - MARGIN_S)
    return None


async def create(find: FindModel, request: Request, services: Services) -> Response:
    """Queue a prediction and respond with it, after its end or the time for which its client waits.

    `find` returns the model of a request.
    """
    queued = await _queued(find, request, services)
    view = await ended(request, services, queued.job, queued.wait_s)
    shown = view or queued.job
    prediction = await prediction_of(shown, request, services)
    if view is None:  # clients that wait take every other state for the end
        prediction = prediction.model_copy(update={"status": Status.STARTING})
    return prediction_response(prediction, HTTPStatus.CREATED)


async def _queued(find: FindModel, request: Request, services: Services) -> Queued:
    """Queue the job of a prediction, and keep nothing else of its body."""
    wait_s = wait_of(request.headers)
    async with invalid_counted(request, services):
        fields = await read_json(request, services.decoding)
        limit_s = min(PATIENCE_S if wait_s is None else wait_s, services.settings.max_wait_s)
        waited_s = await wait_for_model(request, services, limit_s)
        cards = await services.directory.cards()
        if not cards:
            raise NotReady("no model has been published yet")
        name, card = find(fields, cards)
        asked = parse_request(fields)
        request.scope["field_names"] = {"webhook_url": "webhook"}
        target = _target(asked, request, services)
        translation = await translate(asked.input, card, request, services)
        params = await parse_task(translation.task, translation.fields, request, services)
        asked_card = with_lora_defaults(card, resolve_loras(params, card).loras)
        steps = (params.steps or asked_card.default_steps) * params.n
        data = PredictionData(name.text, version_id(card), kept_input(asked.input), steps)
        job = await submit(
            translation.task,
            params,
            request,
            services,
            wait_s is not None,
            waited_s,
            dialect_object=data.kept(),
            webhook=target,
        )
    return Queued(job, max(0.0, (wait_s or 0.0) - waited_s))


def _target(asked: PredictionRequest, request: Request, services: Services) -> WebhookTarget | None:
    """Return the address to call in this form; None: that of the key, in our own."""
    if asked.webhook_url is None:
        return None
    target = allowed_target(asked.webhook_url, request, services)
    changes = {"form": DialectName.REPLICATE.value, "events": asked.calls}
    return target.model_copy(update=changes)


async def prediction_of(view: JobView, request: Request, services: Services) -> Prediction:
    """Return a job as a prediction, if it is one of the client. Raises `UnknownJob`."""
    user: User = request.scope["user"]
    builder = PredictionBuilder(services, base_url_of(request, services.settings.public_url))

    def build() -> Prediction:
        job = services.dialect_jobs.read(view.id, DialectName.REPLICATE, user.owner)
        return builder.prediction(view, job)

    return await run_in_threadpool(build)


def prediction_response(prediction: Prediction, status: int = 200) -> Response:
    """Return a prediction as JSON, with null where it has nothing yet."""
    return Response(prediction.model_dump_json(), status, media_type="application/json")
