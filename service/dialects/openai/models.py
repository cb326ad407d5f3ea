"""GET /v1/models/{id}: one model, as OpenAI's clients ask for it."""

from typing import Annotated

from fastapi import APIRouter, Path

from protocol.errors import UnknownModel
from service.dialects.openai.model_names import stands_for_default
from service.routes.deps import ServicesDep
from service.routes.models import ModelObject, ModelResponse, served_models
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.settings import DialectName

router = APIRouter(
    prefix="/v1/models",
    tags=[DialectName.OPENAI],
    responses=problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 404, 422),
)


ModelId = Annotated[str, Path(examples=["tiny"])]


class OneModelResponse(ModelObject, ModelResponse):
    """A model as OpenAI's API has it, and our description of it."""


# No name has a slash. The path of one with %2F in it arrives decoded and has no route: a 404, too.
@router.get("/{model_id}")
def get_model(model_id: ModelId, services: ServicesDep) -> OneModelResponse:
    """Get a model by its name or an alias.

    The names of OpenAI's image models mean the default.
    """
    models = served_models(services)
    named = [one for one in models if model_id == one.name or model_id in one.aliases]
    found = named or (models if stands_for_default(model_id) else [])
    if not found:
        raise UnknownModel(model_id)
    return OneModelResponse(id=model_id, **found[0].model_dump())
