"""Replicate's routes of models, their versions, and deployments."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from protocol.errors import UnknownModel
from protocol.request.model_card import ModelCard
from service.dialects.model_paths import ModelPath, OwnerPath
from service.dialects.replicate.descriptions import NOT_FOUND
from service.dialects.replicate.input_schema import openapi_schema
from service.dialects.replicate.names import ModelName, card_of, own_name, version_id
from service.routes.deps import Services, ServicesDep
from service.routes.links import base_url_of
from service.routes.models import ListedModel, ModelObject, ModelResponse, served_models
from service.settings import DialectName

UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)  # as `created` in OpenAI's API
COG_VERSION = "0.16.0"  # whose schemas have the form of ours

router = APIRouter(prefix="/v1", tags=[DialectName.REPLICATE], responses=NOT_FOUND)


class Version(BaseModel):
    """The version of a model; `openapi_schema` describes its inputs."""

    id: str
    created_at: datetime = Field(default=UNKNOWN_TIME, description="Not known: 1970.")
    cog_version: str = COG_VERSION
    openapi_schema: dict[str, Any]


class VersionPage(BaseModel):
    """The versions of a model: one."""

    previous: str | None = None
    next: str | None = None
    results: list[Version]


class OwnedModelResponse(ListedModel, ModelObject, ModelResponse):
    """A model as Replicate's and OpenAI's APIs have it, and our description of it."""

    latest_version: Version


class Configuration(BaseModel):
    """The workers of a deployment."""

    hardware: str = "self-hosted"
    min_instances: int
    max_instances: int


class Release(BaseModel):
    """The one release of a deployment."""

    number: int = 1
    model: str
    version: str
    created_at: datetime = UNKNOWN_TIME
    created_by: None = None
    configuration: Configuration


class Deployment(BaseModel):
    """A deployment: each model is one."""

    owner: str
    name: str
    current_release: Release


class DeploymentPage(BaseModel):
    """The deployments, all on one page."""

    previous: str | None = None
    next: str | None = None
    results: list[Deployment]


@router.get("/models/{owner}/{model}")
def get_owned_model(
    request: Request, owner: OwnerPath, model: ModelPath, services: ServicesDep
) -> OwnedModelResponse:
    """Get a model by its name or an alias, under any owner."""
    card, name = _card(owner, model, services), ModelName(owner, model)
    [found] = [one for one in served_models(services) if one.name == card.name]
    base_url = base_url_of(request, services.settings.public_url)
    return OwnedModelResponse(
        **found.model_dump(exclude={"name"}),
        id=name.text,
        url=f"{base_url}/v1/models/{name.path}",
        owner=owner,
        name=model,
        latest_version=_version(card),
    )


@router.get("/models/{owner}/{model}/versions")
def list_model_versions(owner: OwnerPath, model: ModelPath, services: ServicesDep) -> VersionPage:
    """List the versions of a model: one, whose id does not change."""
    return VersionPage(results=[_version(_card(owner, model, services))])


@router.get("/models/{owner}/{model}/versions/{version}")
def get_model_version(
    owner: OwnerPath, model: ModelPath, version: ModelPath, services: ServicesDep
) -> Version:
    """Get the version of a model, with the schema of its inputs."""
    card = _card(owner, model, services)
    named = card_of(version, services.models.cards())
    if named is None or named.name != card.name:
        raise UnknownModel(f"{owner}/{model}:{version}")
    return _version(card).model_copy(update={"id": version})


@router.get("/deployments")
def list_deployments(services: ServicesDep) -> DeploymentPage:
    """List the deployments: each model is one."""
    models = served_models(services)
    return DeploymentPage(results=[_deployment(own_name(one), one) for one in models])


@router.get("/deployments/{owner}/{model}")
def get_deployment(owner: OwnerPath, model: ModelPath, services: ServicesDep) -> Deployment:
    """Get a deployment by the name of its model."""
    card = _card(owner, model, services)
    [found] = [one for one in served_models(services) if one.name == card.name]
    return _deployment(ModelName(owner, model), found)


def _card(owner: str, model: str, services: Services) -> ModelCard:
    card = card_of(model, services.models.cards())
    if card is None:
        raise UnknownModel(f"{owner}/{model}")
    return card


def _version(card: ModelCard) -> Version:
    return Version(id=version_id(card), openapi_schema=openapi_schema(card))


def _deployment(name: ModelName, model: ModelResponse) -> Deployment:
    workers = Configuration(min_instances=0, max_instances=model.workers)
    release = Release(model=name.text, version=version_id(model), configuration=workers)
    return Deployment(owner=name.owner, name=name.name, current_release=release)
