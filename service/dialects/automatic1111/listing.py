"""The lists that clients read at connect: models, samplers, schedules, upscalers and others."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from protocol.recipes.a1111_names import AUTOMATIC, SAMPLER_ALIASES, SCHEDULERS, sampler_label
from protocol.recipes.names import FILTER_LABELS
from protocol.request.model_card import ModelCard, canonical_name
from protocol.request.samplers import DEFAULT_LATENT_MODE, LATENT_MODES
from protocol.request.upscaling import FILTER_SCALE, upscaler_scales
from service.dialects.automatic1111.description import NULL, READ, errors
from service.dialects.automatic1111.options_routes import title_of
from service.dialects.automatic1111.responses import (
    EmbeddingItem,
    EmbeddingsAnswer,
    LoraItem,
    MemoryAnswer,
    ModelItem,
    NameItem,
    SamplerItem,
    SchedulerItem,
    ScriptsAnswer,
    UpscalerItem,
)
from service.dialects.automatic1111.timed_route import PREFIX, TimedRoute
from service.routes.deps import ServicesDep

router = APIRouter(prefix=PREFIX, route_class=TimedRoute, responses=errors(*READ))

NONE = "None"
UNKNOWN = {"error": "not known here: models run in workers, which report no memory"}


async def _cards(services: ServicesDep) -> Mapping[str, ModelCard]:
    return await services.submitter.models.cards()


Cards = Annotated[Mapping[str, ModelCard], Depends(_cards)]


@router.get("/sd-models")
async def webui_sd_models(services: ServicesDep, cards: Cards) -> list[ModelItem]:
    """List the models, the default first."""
    default = canonical_name(services.settings.default_model, cards)
    ordered = sorted(cards.values(), key=lambda card: card.name != default)
    return [
        ModelItem(
            title=title_of(card),
            model_name=card.name,
            hash=card.short_hash or None,
            sha256=card.sha256 or None,
            filename=card.name,
        )
        for card in ordered
    ]


@router.get("/samplers")
async def webui_samplers(cards: Cards) -> list[SamplerItem]:
    """List the samplers of all models."""
    return [
        SamplerItem(
            name=sampler_label(name),
            aliases=list(dict.fromkeys([*SAMPLER_ALIASES.get(name, ()), name])),
            options={},
        )
        for name in _all(card.samplers for card in cards.values())
    ]


@router.get("/schedulers")
async def webui_schedulers(cards: Cards) -> list[SchedulerItem]:
    """List the schedules of all models that AUTOMATIC1111 has, and the automatic choice."""
    offered = set(_all(card.schedules for card in cards.values()))
    automatic = SchedulerItem(name=AUTOMATIC.lower(), label=AUTOMATIC)
    return [automatic] + [
        SchedulerItem(name=one.name, label=one.label)
        for one in SCHEDULERS
        if one.schedule in offered
    ]


@router.get("/upscalers")
async def webui_upscalers(cards: Cards) -> list[UpscalerItem]:
    """List the upscalers; the first is None."""
    networks = {name: n for card in cards.values() for name, n in upscaler_scales(card).items()}
    filters = [
        UpscalerItem(name=name, scale=FILTER_SCALE) for name in (NONE, *FILTER_LABELS.values())
    ]
    return filters + [
        UpscalerItem(name=name, model_name=name, scale=scale) for name, scale in networks.items()
    ]


@router.get("/latent-upscale-modes")
async def webui_latent_upscale_modes() -> list[NameItem]:
    """List the ways in which hires fix scales up latents."""
    modes = [*LATENT_MODES.values(), DEFAULT_LATENT_MODE]
    return [NameItem(name=mode.label) for mode in modes]


@router.get("/loras")
async def webui_loras(cards: Cards) -> list[LoraItem]:
    """List the LoRAs of all models."""
    names = _all(card.loras for card in cards.values())
    return [LoraItem(name=name, alias=name, path=name) for name in names]


@router.get("/embeddings")
async def webui_embeddings(cards: Cards) -> EmbeddingsAnswer:
    """List the textual inversion embeddings of all models."""
    names = _all(card.embeddings for card in cards.values())
    return EmbeddingsAnswer(loaded={name: EmbeddingItem() for name in names}, skipped={})


@router.get("/scripts")
async def webui_scripts(cards: Cards) -> ScriptsAnswer:
    """List the scripts: ControlNet, if a model has any."""
    names = ["controlnet"] if any(card.controlnets for card in cards.values()) else []
    return ScriptsAnswer(txt2img=names, img2img=names)


@router.get("/memory")
async def webui_memory() -> MemoryAnswer:
    """Say that the memory is not known."""
    return MemoryAnswer(ram=UNKNOWN, cuda=UNKNOWN)


@router.get("/cmd-flags")
async def webui_cmd_flags() -> dict[str, Any]:
    """Get the flags with which AUTOMATIC1111 would be started to offer the same."""
    return {"api": True, "nowebui": True}


@router.get("/sd-vae")
@router.get("/sd-modules", name="webui_sd_modules")
@router.get("/hypernetworks", name="webui_hypernetworks")
@router.get("/face-restorers", name="webui_face_restorers")
@router.get("/realesrgan-models", name="webui_realesrgan_models")
@router.get("/prompt-styles", name="webui_prompt_styles")
@router.get("/script-info", name="webui_script_info")
@router.get("/extensions", name="webui_extensions")
async def webui_sd_vae() -> list[NameItem]:
    """List what there is none of here."""
    return []


@router.post("/refresh-checkpoints", responses=NULL)
@router.post("/refresh-loras", responses=NULL, name="refresh_webui_loras")
@router.post("/refresh-vae", responses=NULL, name="refresh_webui_vae")
@router.post("/refresh-embeddings", responses=NULL, name="refresh_webui_embeddings")
async def refresh_webui_checkpoints() -> None:
    """Do nothing: lists are always those of the workers that run."""


@router.post("/unload-checkpoint")
@router.post("/reload-checkpoint", name="reload_webui_checkpoint")
async def unload_webui_checkpoint() -> dict[str, None]:
    """Do nothing: the workers load models and remove them from memory."""
    return {}


def _all(names: Iterable[tuple[str, ...]]) -> list[str]:
    """Return all names once, in their order."""
    return list(dict.fromkeys(name for some in names for name in some))
