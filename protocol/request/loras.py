"""The LoRAs of a request, from its field and from its prompt."""

from typing import TypeVar

from protocol.errors import InvalidRequest
from protocol.request.fields import MAX_LORA_WEIGHT, MAX_LORAS
from protocol.request.generation_params import GenerationParams
from protocol.request.model_card import ModelCard, offered_names
from protocol.request.prompts import parse_prompt, without_loras
from protocol.request.request import LoraUse

P = TypeVar("P", bound=GenerationParams)


def resolve_loras(params: P, card: ModelCard) -> P:
    """Return `params` with every LoRA in its field and none in its prompt.

    A LoRA that is named several times gets the sum of its weights, the same as if each mention
    were applied in turn. Raises `InvalidRequest` for names that the card does not have.
    """
    if mentioned := parse_prompt(params.negative_prompt, params.prompt_syntax).loras:
        bound = "without LoRAs, which work on the whole image: name them in the prompt"
        value = f"<lora:{mentioned[0].name}>"
        raise InvalidRequest("negative_prompt", value, bound, "lora-in-negative-prompt")
    weights: dict[str, float] = {}
    in_prompt = parse_prompt(params.prompt, params.prompt_syntax).loras
    for field, uses in (("loras", params.loras), ("prompt", in_prompt)):
        for use in uses:
            if use.name not in card.loras:
                bound = offered_names("LoRAs", card.loras, card)
                raise InvalidRequest(field, use.name, bound, "unknown-lora")
            weights[use.name] = weights.get(use.name, 0.0) + use.weight
            if abs(weights[use.name]) > MAX_LORA_WEIGHT:
                bound = f"between -{MAX_LORA_WEIGHT:g} and {MAX_LORA_WEIGHT:g} in all"
                raise InvalidRequest(field, weights[use.name], bound, "lora-weight")
    if len(weights) > MAX_LORAS:
        raise InvalidRequest("loras", len(weights), f"at most {MAX_LORAS} of them", "too-many")
    loras = tuple(LoraUse(name=name, weight=weight) for name, weight in weights.items())
    prompt = {"prompt": without_loras(params.prompt)} if in_prompt else {}
    return params.model_copy(update={"loras": loras, **prompt})
