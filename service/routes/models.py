"""/v1/models and /v1/samplers: the available models, samplers and schedules."""

from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from protocol.auth.api_keys import Scope
from protocol.errors import NotEnabled, NotReady, UnknownModel
from protocol.registry.model_commands import Action
from protocol.registry.presence import ModelState, WorkerReport
from protocol.request.model_card import ModelCard, canonical_name
from protocol.request.samplers import SAMPLER_TITLES, SCHEDULE_TITLES
from service.auth.api_keys import User
from service.routes.deps import Services, ServicesDep, UserDep
from service.routes.links import base_url_of
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses

PROBLEMS = problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES)
COMMAND_PROBLEMS = problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 404, 422, 429)
OWNER = "darkroom"  # of all models, where an API wants one
LOADABLE = (ModelState.READY, ModelState.LOADING, ModelState.ON_DEMAND)
ModelName = Annotated[
    str, Path(min_length=1, max_length=200, description="Its name, or an alias.", examples=["tiny"])
]
router = APIRouter(prefix="/v1", tags=["models"], responses=PROBLEMS)


class ModelResponse(ModelCard):
    """A model: its tasks, bounds and defaults, and the workers that serve it now."""

    ready: bool = Field(description="Whether a worker has it in memory at this moment.")
    workers: int = Field(description="The number of workers that have it in memory.")
    on_demand: bool = Field(description="Whether a worker loads it when a job needs it.")
    loading: float | None = Field(description="Progress of a worker that loads it, 0 to 1.")
    trouble: str | None = Field(description="Why the last worker that tried could not load it.")


class ModelObject(BaseModel):
    """A model as OpenAI's API lists it."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Seconds since 1970; 0, as it is not known.")
    owned_by: str = OWNER


class ListedModel(BaseModel):
    """A model as Replicate's API lists it. Its runs are not counted."""

    url: str
    owner: str
    name: str
    description: str
    visibility: Literal["public"] = "public"
    run_count: int = 0


class ModelsResponse(BaseModel):
    """All models, those being served first; the first is the default.

    `object` and `data` are the same list for clients of OpenAI's API, `results`, `next` and
    `previous` for those of Replicate's.
    """

    models: list[ModelResponse]
    object: Literal["list"] = "list"
    data: list[ModelObject]
    results: list[ListedModel]
    next: str | None = Field(default=None, description="Null: there is one page.")
    previous: str | None = Field(default=None, description="Null: there is one page.")


class Choice(BaseModel):
    """The name of a sampler or schedule, its usual title, and the models that have it."""

    name: str
    title: str
    models: list[str]


class SamplersResponse(BaseModel):
    """Samplers, and schedules of their timesteps; they can be combined freely."""

    samplers: list[Choice]
    schedules: list[Choice]


@router.get("/models")
def list_models(request: Request, services: ServicesDep) -> ModelsResponse:
    """List the models, with the bounds of their requests."""
    models = served_models(services)
    base_url = base_url_of(request, services.settings.public_url)
    return ModelsResponse(
        models=models,
        data=[ModelObject(id=model.name) for model in models],
        results=[_listed(model, base_url) for model in models],
    )


def _listed(model: ModelResponse, base_url: str) -> ListedModel:
    return ListedModel(
        url=f"{base_url}/v1/models/{OWNER}/{quote(model.name, safe='')}",
        owner=OWNER,
        name=model.name,
        description=model.description,
    )


def served_models(services: Services) -> list[ModelResponse]:
    """Return all models, the default first, then those being served."""
    cards, reports = services.models.cards(), services.presence.workers()
    models = [_model(card, reports) for card in cards.values()]
    default = canonical_name(services.settings.default_model, cards)
    return sorted(models, key=lambda model: (model.name != default, not model.ready))


def _model(card: ModelCard, reports: list[WorkerReport]) -> ModelResponse:
    serving = [report for report in reports if card.name in report.serves]
    states = [
        model
        for report in reports
        if report.state.serves
        for model in report.models
        if model.name == card.name
    ]
    loading = [model.progress or 0.0 for model in states if model.state is ModelState.LOADING]
    trouble = [model.detail for model in states if model.state is ModelState.FAILED]
    return ModelResponse(
        **card.model_dump(),
        ready=bool(serving),
        workers=len(serving),
        on_demand=any(model.state is ModelState.ON_DEMAND for model in states),
        loading=max(loading, default=None),
        trouble=next(iter(trouble), None),
    )


@router.get("/samplers")
def list_samplers(services: ServicesDep) -> SamplersResponse:
    """List the values of `sampler` and `schedule`."""
    cards = list(services.models.cards().values())
    return SamplersResponse(
        samplers=_choices({card.name: card.samplers for card in cards}, SAMPLER_TITLES),
        schedules=_choices({card.name: card.schedules for card in cards}, SCHEDULE_TITLES),
    )


@router.post("/models/{name}/load", status_code=202, responses=COMMAND_PROBLEMS)
def load_model(name: ModelName, services: ServicesDep, user: UserDep) -> ModelResponse:
    """Load a model into the memory of a worker, before a job needs it.

    For admins, where `DARKROOM_MODEL_CONTROL` is on. The response comes at once; `loading` of the
    model tells the progress.
    """
    return _command(name, Action.LOAD, services, user)


@router.post("/models/{name}/unload", status_code=202, responses=COMMAND_PROBLEMS)
def unload_model(name: ModelName, services: ServicesDep, user: UserDep) -> ModelResponse:
    """Unload a model from the memory of all workers, as soon as its running jobs have ended.

    For admins, where `DARKROOM_MODEL_CONTROL` is on. A later job for it loads it again.
    """
    return _command(name, Action.UNLOAD, services, user)


def _command(name: str, action: Action, services: Services, user: User) -> ModelResponse:
    user.require(Scope.ADMIN)
    if not services.settings.model_control:
        raise NotEnabled("models are not loaded and unloaded by request", "DARKROOM_MODEL_CONTROL")
    cards, reports = services.models.cards(), services.presence.workers()
    known = canonical_name(name, cards)
    if known is None:
        raise UnknownModel(name)
    if action is Action.LOAD and not any(
        known in report.models_in(*LOADABLE) for report in reports
    ):
        raise NotReady(f"no worker can load the model {known}")
    services.model_commands.give(known, action)
    return _model(cards[known], reports)


def _choices(offered: Mapping[str, tuple[str, ...]], titles: Mapping[str, str]) -> list[Choice]:
    names = dict.fromkeys(name for names in offered.values() for name in names)
    return [
        Choice(
            name=name,
            title=titles.get(name, name),
            models=[model for model, names in offered.items() if name in names],
        )
        for name in names
    ]
