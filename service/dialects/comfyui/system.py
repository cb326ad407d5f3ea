"""Lists for clients that connect: models by folder, embeddings, the system; and POST /free."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.auth.api_keys import Scope
from protocol.errors import UnknownModel
from protocol.registry.model_commands import Action
from service.dialects.comfyui.answers import (
    DeviceInfo,
    FeaturesAnswer,
    SystemInfo,
    SystemStatsAnswer,
)
from service.dialects.comfyui.description import EMPTY, FLAG, READ, WRITE, body, errors
from service.dialects.comfyui.graph.offer import Offer
from service.dialects.lenient import read_json
from service.routes.deps import ServicesDep, UserDep
from service.settings import ServiceSettings

router = APIRouter(responses=errors(*READ))

VERSION = "0.3.64"  # of ComfyUI, whose protocol this is
# ComfyUI's folders of models; those that are not lists of the offer are empty here.
FOLDERS = (
    *("checkpoints", "loras", "vae", "controlnet", "upscale_models", "embeddings"),
    *("configs", "text_encoders", "clip", "diffusion_models", "unet", "clip_vision"),
    *("style_models", "diffusers", "vae_approx", "gligen", "hypernetworks", "photomaker"),
)
LISTED = ("checkpoints", "loras", "vae", "controlnet", "upscale_models")


@router.get("/models")
async def comfy_model_folders() -> list[str]:
    """List the folders of models."""
    return list(FOLDERS)


@router.get("/models/{folder}", responses=errors(404))
async def comfy_models(
    services: ServicesDep, folder: str = Path(max_length=100, examples=["checkpoints"])
) -> list[str]:
    """List the names of a folder, as the loader nodes take them."""
    if folder not in FOLDERS:
        raise UnknownModel(folder)
    offer = Offer(await services.submitter.models.cards())
    if folder == "embeddings":
        return offer.embeddings
    return offer.names(folder) if folder in LISTED else []


@router.get("/embeddings")
async def comfy_embeddings(services: ServicesDep) -> list[str]:
    """List the textual inversion embeddings, for `embedding:name` in prompts."""
    return Offer(await services.submitter.models.cards()).embeddings


@router.get("/extensions")
async def comfy_extensions() -> list[str]:
    """List the extensions of the page: there are none."""
    return []


@router.get("/features")
async def comfy_features(services: ServicesDep) -> FeaturesAnswer:
    """Get the optional parts of the protocol that are spoken."""
    return FeaturesAnswer.model_validate(features(services.settings))


def features(settings: ServiceSettings) -> dict[str, Any]:
    """Return what the socket and /features say."""
    return {"supports_preview_metadata": True, "max_upload_size": settings.max_body_bytes}


@router.get("/system_stats")
async def comfy_system_stats(services: ServicesDep) -> SystemStatsAnswer:
    """Get the devices of the workers. Memory is not known here and shown as 0."""
    workers = await run_in_threadpool(services.presence.workers)
    names = [worker.device or "unknown" for worker in workers]
    return SystemStatsAnswer(
        system=SystemInfo(os="posix", comfyui_version=VERSION),
        devices=[
            DeviceInfo(name=name, type="cpu" if name.startswith("cpu") else "cuda", index=i)
            for i, name in enumerate(names)
        ],
    )


@router.post(
    "/free",
    response_class=Response,
    responses=errors(*WRITE) | EMPTY,
    openapi_extra=body({"unload_models": True}, unload_models=FLAG, free_memory=FLAG),
)
async def comfy_free(request: Request, services: ServicesDep, user: UserDep) -> Response:
    """Unload all models, for an admin where `DARKROOM_MODEL_CONTROL` is on; else do nothing."""
    asked = await read_json(request, services.decoding)
    allowed = Scope.ADMIN in user.scopes and services.settings.model_control
    if allowed and (asked.get("unload_models") is True or asked.get("free_memory") is True):
        for name in await services.submitter.models.cards():
            await run_in_threadpool(services.model_commands.give, name, Action.UNLOAD)
    return Response(status_code=HTTPStatus.OK)
