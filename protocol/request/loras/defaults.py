"""The defaults of a request that names LoRAs which were trained for settings of their own."""

from protocol.request.loras.lora_use import Loras
from protocol.request.model_card import LoraInfo, ModelCard


def with_lora_defaults(card: ModelCard, loras: Loras) -> ModelCard:
    """Return the card with the settings that the first of these LoRAs to have any was trained for.

    They take the place of the model's defaults, so what a request says itself has precedence. A
    LoRA without an effect, or with settings that the model does not offer, changes nothing.
    """
    infos = {info.name: info for info in card.lora_info if _is_offered(info, card)}
    acting = (use.name for use in loras if use.has_effect)
    chosen = next((infos[name] for name in acting if name in infos), None)
    if chosen is None:
        return card
    names = ("sampler", "schedule", "guidance_scale", "steps")
    return card.model_copy(update={f"default_{name}": getattr(chosen, name) for name in names})


def _is_offered(info: LoraInfo, card: ModelCard) -> bool:
    """Return True if a LoRA was trained for settings that the model has."""
    return (
        info.sampler in card.samplers
        and info.schedule in card.schedules
        and info.steps is not None
        and info.steps <= card.max_steps
        and info.guidance_scale is not None
        and info.guidance_scale <= card.max_guidance_scale
    )
