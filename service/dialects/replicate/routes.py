"""Replicate's routes of predictions."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.errors import UnknownModel
from protocol.queue.job_list import JobFilter
from protocol.request.model_card import ModelCard
from service.dialects.model_paths import ModelPath, OwnerPath
from service.dialects.replicate.descriptions import (
    CREATED,
    MODEL_BODY,
    PREDICTION,
    PREDICTION_PAGE,
    VERSION_BODY,
)
from service.dialects.replicate.names import ModelName, card_of, named_version
from service.dialects.replicate.predictions import (
    PATH,
    Prediction,
    PredictionBuilder,
    PredictionPage,
)
from service.dialects.replicate.submission import (
    FindModel,
    create,
    prediction_of,
    prediction_response,
)
from service.routes.deps import JobDep, JobIdPath, ServicesDep, UserDep
from service.routes.links import base_url_of
from service.routes.submission import ended
from service.schemas.body_parser import Fields
from service.schemas.job_list import cursor_of, place_of
from service.settings import DialectName

PAGE = 100  # predictions of a page
CANCEL_WAIT_S = 10.0  # for a running job, which stops after its step

Cursor = Annotated[str | None, Query(max_length=100, description="That of `next` of a page.")]
router = APIRouter(tags=[DialectName.REPLICATE])


def _of_version(fields: Fields, cards: Mapping[str, ModelCard]) -> tuple[ModelName, ModelCard]:
    return named_version(fields.get("version"), cards)


def _of_path(owner: str, name: str) -> FindModel:
    def find(_: Fields, cards: Mapping[str, ModelCard]) -> tuple[ModelName, ModelCard]:
        card = card_of(name, cards)
        if card is None:
            raise UnknownModel(f"{owner}/{name}")
        return ModelName(owner, name), card

    return find


@router.post(
    PATH,
    status_code=HTTPStatus.CREATED,
    response_model=Prediction,
    responses=CREATED,
    openapi_extra=VERSION_BODY,
)
async def create_prediction(request: Request, services: ServicesDep) -> Response:
    """Generate images by a version of a model.

    With `Prefer: wait`, or `wait=10`, the response has the images if they are ready in time; else,
    and without it, the prediction is `starting` and can be asked for.
    """
    return await create(_of_version, request, services)


@router.post(
    "/v1/models/{owner}/{model}/predictions",
    status_code=HTTPStatus.CREATED,
    response_model=Prediction,
    responses=CREATED,
    openapi_extra=MODEL_BODY,
)
async def create_model_prediction(
    request: Request, owner: OwnerPath, model: ModelPath, services: ServicesDep
) -> Response:
    """Generate images by a model."""
    return await create(_of_path(owner, model), request, services)


@router.post(
    "/v1/deployments/{owner}/{model}/predictions",
    status_code=HTTPStatus.CREATED,
    response_model=Prediction,
    responses=CREATED,
    openapi_extra=MODEL_BODY,
)
async def create_deployment_prediction(
    request: Request, owner: OwnerPath, model: ModelPath, services: ServicesDep
) -> Response:
    """Generate images by a deployment: each model is one."""
    return await create(_of_path(owner, model), request, services)


@router.get(PATH, responses=PREDICTION_PAGE)
async def list_predictions(
    request: Request, services: ServicesDep, user: UserDep, cursor: Cursor = None
) -> PredictionPage:
    """List your predictions, the newest first; with the scope admin, those of everybody.

    They are listed as long as they can be asked for.
    """
    base_url = base_url_of(request, services.settings.public_url)
    after = None if cursor is None else place_of(cursor)

    def page() -> PredictionPage:
        found = services.job_list.page(
            user.owner, JobFilter(dialect=DialectName.REPLICATE), PAGE, after
        )
        ids = [job.view.id for job in found.jobs]
        kept = services.dialect_jobs.read_many(ids, DialectName.REPLICATE, user.owner)
        builder = PredictionBuilder(services, base_url)
        return PredictionPage(
            next=f"{base_url}{PATH}?cursor={cursor_of(found.end)}" if found.end else None,
            results=[
                builder.prediction(job.view, one)
                for job, one in zip(found.jobs, kept, strict=True)
                if one is not None  # it has expired meanwhile
            ],
        )

    return await run_in_threadpool(page)


@router.get(f"{PATH}/{{job_id}}", response_model=Prediction, responses=PREDICTION)
async def get_prediction(request: Request, job: JobDep, services: ServicesDep) -> Response:
    """Get a prediction: its state, its progress in `logs`, its images or its error."""
    return prediction_response(await prediction_of(job, request, services))


@router.post(f"{PATH}/{{job_id}}/cancel", response_model=Prediction, responses=PREDICTION)
async def cancel_prediction(
    request: Request, job_id: JobIdPath, services: ServicesDep, user: UserDep
) -> Response:
    """Cancel a prediction: at once if it has not begun, after its current step if it runs.

    One that has ended is not changed.
    """
    await run_in_threadpool(services.dialect_jobs.read, job_id, DialectName.REPLICATE, user.owner)
    cancelled = await run_in_threadpool(services.queue.cancel, job_id, user.owner)
    view = await ended(request, services, cancelled, CANCEL_WAIT_S, cancel_on_disconnect=False)
    return prediction_response(await prediction_of(view or cancelled, request, services))
