"""The LoRAs of a request, from its field and from its prompt."""

from collections.abc import Iterator
from typing import TypeVar

from protocol.errors import InvalidRequest
from protocol.request.bounds import exact
from protocol.request.fields import MAX_LORA_WEIGHT, MAX_LORAS, normal_form
from protocol.request.generation_params import GenerationParams
from protocol.request.loras.lora_use import (
    BLOCK_LISTS,
    BLOCK_WEIGHTS_BOUND,
    MOST_MERGED,
    Loras,
    LoraUse,
    merged_sets,
)
from protocol.request.model_card import ModelCard, offered_names
from protocol.request.prompts import LORA_FORM, LoraMention, parse_prompt, without_loras

DECIMALS = 6  # of a sum of weights, so that 1.1 + 2.9 is no more than 4

P = TypeVar("P", bound=GenerationParams)


def resolve_loras(params: P, card: ModelCard) -> P:
    """Return `params` with every LoRA in its field and none in its prompt.

    A LoRA that is named several times, for the same blocks and steps, gets the sum of its weights,
    the same as if each mention were applied in turn. Raises `InvalidRequest` for names that the
    card does not have, and for sets of LoRAs that change too often.
    """
    if mentioned := parse_prompt(params.negative_prompt, params.prompt_syntax).loras:
        bound = "without LoRAs, which work on the whole image: name them in the prompt"
        value = f"<lora:{mentioned[0].name}>"
        raise InvalidRequest("negative_prompt", value, bound, "lora-in-negative-prompt")
    in_prompt = parse_prompt(params.prompt, params.prompt_syntax).loras
    summed: dict[object, LoraUse] = {}
    for field, use in _named(params, in_prompt, card):
        _check(field, use, card)
        key = use.name, use.block_factors, use.start, use.end
        summed[key] = _sum(field, summed[key], use) if key in summed else use
    loras = tuple(summed.values())
    if len(loras) > MAX_LORAS:
        raise InvalidRequest("loras", len(loras), f"at most {MAX_LORAS} of them", "too-many")
    if (sets := merged_sets(loras)) > MOST_MERGED:
        bound = f"at most {MOST_MERGED} different sets of them over the steps (start and end)"
        raise InvalidRequest("loras", f"{sets} sets", bound, "too-many-lora-sets")
    prompt = {"prompt": without_loras(params.prompt)} if in_prompt else {}
    return params.model_copy(update={"loras": loras, **prompt})


def further_tokens(text: str, loras: Loras, card: ModelCard) -> int:
    """Return at most how many tokens more a prompt has by the words that its LoRAs bring along."""
    named = {use.name for use in loras}
    words = [info.words for info in card.lora_info if info.name in named]
    lower = text.lower()
    return sum(
        (vectors - 1) * lower.count(word.lower())
        for each in words
        for word, vectors in each.items()
    )


def _named(
    params: GenerationParams, in_prompt: tuple[LoraMention, ...], card: ModelCard
) -> Iterator[tuple[str, LoraUse]]:
    """Yield each LoRA, with a text encoder weight only where it differs, and its field."""
    for use in params.loras:
        same = use.text_encoder_weight == use.weight
        name = {"name": normal_form(use.name)}
        yield "loras", use.model_copy(update=name | ({"text_encoder_weight": None} if same else {}))
    for mention in in_prompt:
        if mention.problem:
            value = f"<lora:{mention.name}:{mention.problem}>"
            raise InvalidRequest("prompt", value, LORA_FORM, "lora-syntax")
        yield "prompt", mention.use(params.steps or card.default_steps)


def _check(field: str, use: LoraUse, card: ModelCard) -> None:
    if use.name not in card.loras:
        bound = offered_names("LoRAs", card.loras, card, use.name)
        raise InvalidRequest(field, use.name, bound, "unknown-lora")
    for weight in (use.weight, use.text_encoder_weight or 0.0, *(use.block_factors or ())):
        _check_weight(field, weight)
    blocks = use.block_factors
    if blocks is not None and len(blocks) not in BLOCK_LISTS:
        bound = f"with block_weights that are {BLOCK_WEIGHTS_BOUND}"
        raise InvalidRequest(field, f"{len(blocks)} numbers", bound, "block-weights")
    if use.start > use.end:
        bound = f"with a start up to its end, which is {exact(use.end)}"
        raise InvalidRequest(field, use.start, bound, "lora-interval")


def _sum(field: str, one: LoraUse, other: LoraUse) -> LoraUse:
    """Return a LoRA with the weights of both."""
    weight = round(one.weight + other.weight, DECIMALS)
    in_text = [
        use.weight if use.text_encoder_weight is None else use.text_encoder_weight
        for use in (one, other)
    ]
    text = round(sum(in_text), DECIMALS)
    for total in (weight, text):
        _check_weight(field, total)
    changed = {"weight": weight, "text_encoder_weight": None if text == weight else text}
    return one.model_copy(update=changed)


def _check_weight(field: str, weight: float) -> None:
    if abs(weight) > MAX_LORA_WEIGHT:
        bound = f"between {exact(-MAX_LORA_WEIGHT)} and {exact(MAX_LORA_WEIGHT)} in all"
        raise InvalidRequest(field, weight, bound, "lora-weight")
