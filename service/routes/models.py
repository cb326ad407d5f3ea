"""GET /v1/models and /v1/samplers: the available models, samplers and schedules."""

from collections.abc import Mapping

from fastapi import APIRouter
from pydantic import BaseModel, Field

from protocol.registry.presence import ModelState, WorkerReport
from protocol.request.model_card import ModelCard, canonical_name
from protocol.request.samplers import SAMPLER_TITLES, SCHEDULE_TITLES
from service.routes.deps import ServicesDep
from service.schemas.problems import ACCESS_STATUSES, problem_responses

PROBLEMS = problem_responses(*ACCESS_STATUSES, 500, 503)
router = APIRouter(prefix="/v1", tags=["models"], responses=PROBLEMS)


class ModelResponse(ModelCard, title="ModelAnswer"):
    """A model: its tasks, bounds and defaults, and the workers that serve it now."""

    ready: bool = Field(description="Whether a worker has it in memory at this moment.")
    workers: int = Field(description="The number of workers that have it in memory.")
    on_demand: bool = Field(description="Whether a worker loads it when a job needs it.")
    loading: float | None = Field(description="Progress of a worker that loads it, 0 to 1.")
    trouble: str | None = Field(description="Why the last worker that tried could not load it.")


class ModelsResponse(BaseModel, title="ModelsAnswer"):
    """All models, those being served first; the first is the default."""

    models: list[ModelResponse]


class Choice(BaseModel):
    """The name of a sampler or schedule, its usual title, and the models that have it."""

    name: str
    title: str
    models: list[str]


class SamplersResponse(BaseModel, title="SamplersAnswer"):
    """Samplers, and schedules of their timesteps; they can be combined freely."""

    samplers: list[Choice]
    schedules: list[Choice]


@router.get("/models")
def list_models(services: ServicesDep) -> ModelsResponse:
    """List the models, with the bounds of their requests."""
    cards, reports = services.models.cards(), services.presence.workers()
    models = [_model(card, reports) for card in cards.values()]
    default = canonical_name(services.settings.default_model, cards)
    return ModelsResponse(
        models=sorted(models, key=lambda model: (model.name != default, not model.ready))
    )


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
