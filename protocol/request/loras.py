"""The LoRAs of a request: from its field and from its prompt, all of them the operator's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard
from protocol.request.prompts import parse, without_loras
from protocol.request.request import LARGEST_LORA_WEIGHT, MOST_LORAS, LoraUse

if TYPE_CHECKING:
    from protocol.request.generation_params import GenerationParams

MOST_NAMED = 20  # LoRAs that a refusal lists

D = TypeVar("D", bound="GenerationParams")


def chosen_loras(draft: D, card: ModelCard) -> D:
    """`draft` with every LoRA in its field and none left in its prompt.

    One that is named several times counts with the sum of its weights, as it does where each
    mention is applied in turn. Raises `InvalidRequest` for names that the card does not have.
    """
    if mentioned := parse(draft.negative_prompt, draft.prompt_syntax).loras:
        bound = "without LoRAs, which work on the whole picture: name them in the prompt"
        value = f"<lora:{mentioned[0].name}>"
        raise InvalidRequest("negative_prompt", value, bound, "lora-in-negative-prompt")
    weights: dict[str, float] = {}
    in_prompt = parse(draft.prompt, draft.prompt_syntax).loras
    for field, uses in (("loras", draft.loras), ("prompt", in_prompt)):
        for use in uses:
            if use.name not in card.loras:
                raise InvalidRequest(field, use.name, _what_there_is(card), "unknown-lora")
            weights[use.name] = weights.get(use.name, 0.0) + use.weight
            if abs(weights[use.name]) > LARGEST_LORA_WEIGHT:
                bound = f"between -{LARGEST_LORA_WEIGHT:g} and {LARGEST_LORA_WEIGHT:g} in all"
                raise InvalidRequest(field, weights[use.name], bound, "lora-weight")
    if len(weights) > MOST_LORAS:
        raise InvalidRequest("loras", len(weights), f"at most {MOST_LORAS} of them", "too-many")
    loras = tuple(LoraUse(name=name, weight=weight) for name, weight in weights.items())
    prompt = {"prompt": without_loras(draft.prompt)} if in_prompt else {}
    return draft.model_copy(update={"loras": loras, **prompt})


def _what_there_is(card: ModelCard) -> str:
    if not card.loras:
        return f"absent: there are no LoRAs for {card.name}"
    more = len(card.loras) - MOST_NAMED
    names = ", ".join(card.loras[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"one of {names}"
