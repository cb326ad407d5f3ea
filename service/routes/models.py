"""GET /v1/models and /v1/samplers: what can be asked for."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from protocol.catalogue import ModelCard
from service.dependencies import ServicesDep
from service.problems import DOOR, documented

router = APIRouter(prefix="/v1", tags=["models"], responses=documented(*DOOR, 500, 503))


class ModelAnswer(ModelCard):
    """A model: what it can do, its bounds and defaults, and who serves it now."""

    ready: bool = Field(description="Whether a worker serves it at this moment.")
    workers: int = Field(description="How many do.")


class ModelsAnswer(BaseModel):
    """Every model there is, those being served first: the first is the default."""

    models: list[ModelAnswer]


class Choice(BaseModel):
    """A name, and the models that know it."""

    name: str
    models: list[str]


class SamplersAnswer(BaseModel):
    """Samplers, and the schedules that space their timesteps; any goes with any."""

    samplers: list[Choice]
    schedules: list[Choice]


@router.get("/models")
def list_models(services: ServicesDep) -> ModelsAnswer:
    """The models, with the bounds within which requests must stay."""
    serving = [report.model for report in services.presence.workers() if report.state.serves]
    models = [
        ModelAnswer(**card.model_dump(), ready=name in serving, workers=serving.count(name))
        for name, card in services.catalogue.cards().items()
    ]
    default = services.settings.default_model
    return ModelsAnswer(
        models=sorted(models, key=lambda model: (model.name != default, not model.ready))
    )


@router.get("/samplers")
def list_samplers(services: ServicesDep) -> SamplersAnswer:
    """The names that `sampler` and `schedule` may have."""
    cards = list(services.catalogue.cards().values())
    return SamplersAnswer(
        samplers=_choices({card.name: card.samplers for card in cards}),
        schedules=_choices({card.name: card.schedules for card in cards}),
    )


def _choices(offered: dict[str, tuple[str, ...]]) -> list[Choice]:
    names = dict.fromkeys(name for names in offered.values() for name in names)
    return [
        Choice(name=name, models=[model for model, names in offered.items() if name in names])
        for name in names
    ]
