"""GET /v1/models and /v1/samplers: what can be asked for."""

from collections.abc import Mapping

from fastapi import APIRouter
from pydantic import BaseModel, Field

from protocol.registry.presence import ModelState, WorkerReport
from protocol.request.model_card import ModelCard, canonical_name
from protocol.request.samplers import SAMPLER_TITLES, SCHEDULE_TITLES
from service.routes.deps import ServicesDep
from service.schemas.problems import DOOR, documented

router = APIRouter(prefix="/v1", tags=["models"], responses=documented(*DOOR, 500, 503))


class ModelAnswer(ModelCard):
    """A model: what it can do, its bounds and defaults, and who serves it now."""

    ready: bool = Field(description="Whether a worker has it in memory at this moment.")
    workers: int = Field(description="How many have.")
    on_demand: bool = Field(description="Whether a worker loads it when a job comes for it.")
    loading: float | None = Field(description="How far a worker is with that, 0 to 1.")
    trouble: str | None = Field(description="Why the last worker that tried could not load it.")


class ModelsAnswer(BaseModel):
    """Every model there is, those being served first: the first is the default."""

    models: list[ModelAnswer]


class Choice(BaseModel):
    """A name, what people call it, and the models that know it."""

    name: str
    title: str
    models: list[str]


class SamplersAnswer(BaseModel):
    """Samplers, and the schedules that space their timesteps; any goes with any."""

    samplers: list[Choice]
    schedules: list[Choice]


@router.get("/models")
def list_models(services: ServicesDep) -> ModelsAnswer:
    """The models, with the bounds within which requests must stay."""
    cards, reports = services.catalogue.cards(), services.presence.workers()
    models = [_answer(card, reports) for card in cards.values()]
    default = canonical_name(services.settings.default_model, cards)
    return ModelsAnswer(
        models=sorted(models, key=lambda model: (model.name != default, not model.ready))
    )


def _answer(card: ModelCard, reports: list[WorkerReport]) -> ModelAnswer:
    having = [report for report in reports if card.name in report.serves]
    others = [
        model
        for report in reports
        if report.state.serves
        for model in report.models
        if model.name == card.name
    ]
    loading = [model.progress or 0.0 for model in others if model.state is ModelState.LOADING]
    trouble = [model.detail for model in others if model.state is ModelState.FAILED]
    return ModelAnswer(
        **card.model_dump(),
        ready=bool(having),
        workers=len(having),
        on_demand=any(model.state is ModelState.ON_DEMAND for model in others),
        loading=max(loading, default=None),
        trouble=next(iter(trouble), None),
    )


@router.get("/samplers")
def list_samplers(services: ServicesDep) -> SamplersAnswer:
    """The names that `sampler` and `schedule` may have."""
    cards = list(services.catalogue.cards().values())
    return SamplersAnswer(
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
