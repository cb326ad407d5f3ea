"""Resolution of a client's parameters into a generation request. All validation is here, once.

Adds the bounds of the model to those of the fields, fills in defaults and a random seed. Input
images come in as `InputImage`: decoded, checked and resized to the size of the request.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence

from protocol.errors import InvalidRequest, NotReady
from protocol.record import common_fields
from protocol.request.borders import resolve_outpainting
from protocol.request.bounds import exact
from protocol.request.classes import resolve_boxes, resolve_class
from protocol.request.controls import resolve_controls
from protocol.request.fields import SEED_LIMIT
from protocol.request.generation_params import GenerationParams, InputImage
from protocol.request.inpainting import MaskedContent, Paste, check_area
from protocol.request.loras.defaults import with_lora_defaults
from protocol.request.loras.resolution import further_tokens, resolve_loras
from protocol.request.model_card import ModelCard, canonical_name
from protocol.request.model_fields import (
    check_depth_map,
    checked_aesthetic_score,
    checked_image_guidance_scale,
    checked_noise_level,
)
from protocol.request.multi_pass import (
    check_strength,
    least_steps,
    resolve_hires_fix,
    resolve_refinement,
)
from protocol.request.outpainting import Outpainting
from protocol.request.prompts import PromptSyntax, parse_prompt
from protocol.request.request import Decoder, GenerationRequest
from protocol.request.samplers import resolve_eta
from protocol.request.sizes import Size, target_size, upscaled_size
from protocol.request.sound import checked_audio_format
from protocol.request.tasks import REQUIRED_FIELDS, TASK_FIELDS, Task
from protocol.request.tiles import resolve_tiles, tiled_size
from protocol.request.upscaling import (
    check_no_upscaling,
    resolve_upscaling,
    upscaler_scales,
    upscalers_bound,
)

TokenCounter = Callable[[str], int]  # text -> tokens without the end marks


def choose_card(
    task: Task, name: str | None, cards: Mapping[str, ModelCard], preferred: Iterable[str] = ()
) -> ModelCard:
    """Return the card of the model `name`, or of the model to use if there is no name.

    That is the first of `preferred` that can do the task, else any that can. Raises
    `InvalidRequest` if the named model cannot do it, or none can, and `NotReady` without models.
    """
    if not cards:
        raise NotReady("no worker has published a model yet")
    named = canonical_name(name, cards)
    if name is not None and named is None:
        raise InvalidRequest("model", name, _one_of(cards), "unknown-model")
    able = {known: card for known, card in cards.items() if task in card.tasks}
    order = [named] if named is not None else [*preferred, *able]
    card = next((able[choice] for choice in order if choice in able), None)
    if card is None:
        raise _unsupported_task(task, name, cards[named or next(iter(cards))], list(able))
    return card


def choose_upscaling_card(
    upscalers: Mapping[str, str],
    name: str | None,
    cards: Mapping[str, ModelCard],
    preferred: Iterable[str] = (),
) -> ModelCard:
    """Return the card of a model whose workers have the upscalers: `name`, or any.

    `upscalers` are names by field. The model's tasks do not matter. Raises like `choose_card`.
    """
    if not cards:
        raise NotReady("no worker has published a model yet")
    named = canonical_name(name, cards)
    if name is not None and named is None:
        raise InvalidRequest("model", name, _one_of(cards), "unknown-model")
    offered = {known: {one.name for one in card.upscalers} for known, card in cards.items()}
    order = [named] if named is not None else [*preferred, *cards]
    for choice in order:
        if choice in cards and offered[choice].issuperset(upscalers.values()):
            return cards[choice]
    together = set().union(*(offered[choice] for choice in order if choice in cards))
    missing = [field for field, one in upscalers.items() if one not in together]
    field = next(iter(missing or upscalers))
    bound = upscalers_bound(sorted(together))
    raise InvalidRequest(field, upscalers[field], bound, "unknown-upscaler")


def _unsupported_task(
    task: Task, name: str | None, card: ModelCard, able: list[str]
) -> InvalidRequest:
    """Return the error for a task that `card` lacks; `able`: the models that can do it.

    `name` is None if the client named no model. An image can be upscaled without any.
    """
    if task is Task.UPSCALE and name is None:
        bound = f"{upscalers_bound(upscaler_scales(card))}: no model here can do upscale"
        return InvalidRequest("upscaler", None, bound, "unsupported-task")
    bound = (
        f"a model that can do {task} ({', '.join(able) or 'there is none here'}); "
        f"{card.name} does {', '.join(card.tasks)}"
    )
    return InvalidRequest("model", name and card.name, bound, "unsupported-task")


def resolve(
    task: Task,
    params: GenerationParams,
    card: ModelCard,
    count_tokens: TokenCounter,
    image: InputImage | None = None,
    mask: InputImage | None = None,
    controls: Sequence[InputImage] = (),
    paste: Paste | None = None,
    depth_map: InputImage | None = None,
) -> GenerationRequest:
    """Return the request for `params` within the bounds of `card`, a model that can do the task.

    `controls` are the control images of the parameters, in their order. `paste`: how the result is
    made, if `image` is not the client's whole image.

    Raises `InvalidRequest` with the name of the first field that is out of its bounds.
    """
    _check_task_fields(task, params, {"image": image, "mask": mask, "depth_map": depth_map})
    check_depth_map(depth_map is not None, task, card)
    if task is Task.UPSCALE and image is not None:
        if params.upscaler is not None:
            return resolve_upscaling(params, card, image)
        check_no_upscaling(params)
    check_area(params.inpaint_area, params.mask_padding, params.resize_mode)
    params = resolve_loras(params, card)
    card = with_lora_defaults(card, params.loras)
    _check_prompts(task, params, card, count_tokens)
    outpainting = _outpainting(task, params, card, image)
    width, height = size = _resolve_size(task, params, card, image, outpainting)
    strength = (params.strength or card.default_strength) if task.takes("strength") else None
    steps = params.steps or _default_steps(params, card, strength)
    _check_bounds(params, card, steps, strength)
    sampler = _choice("sampler", params.sampler, card.default_sampler, card.samplers)
    changed = {
        "task": task,
        "model": card.name,
        "width": width,
        "height": height,
        "steps": steps,
        "sampler": sampler,
        "schedule": _choice("schedule", params.schedule, card.default_schedule, card.schedules),
        "eta": resolve_eta(params.eta, sampler, card.default_eta),
        "guidance_scale": _guidance_scale(params, card),
        "seed": secrets.randbelow(SEED_LIMIT) if params.seed is None else params.seed,
        "strength": strength,
        "image_key": image.key if image else None,
        "mask_key": mask.key if mask else None,
        "depth_map_key": depth_map.key if depth_map else None,
        "paste": paste,
        "class_id": resolve_class(params.class_id, card),
        "boxes": resolve_boxes(params.boxes, card),
        "decoder": _choice("decoder", params.decoder, Decoder.FULL, card.decoders),
        "controls": resolve_controls(params, card, controls),
        "refinement": resolve_refinement(params, card, steps),
        "enlargement": resolve_hires_fix(params, card, size, steps),
        "tiles": resolve_tiles(params, card, size, image),
        "outpainting": outpainting,
        "masked_content": params.masked_content or (MaskedContent.FILL if outpainting else None),
        "aesthetic_score": checked_aesthetic_score(params, card),
        "noise_level": checked_noise_level(task, params, card),
        "image_guidance_scale": checked_image_guidance_scale(task, params, card),
        "audio_format": checked_audio_format(params, card, width),
        "model_hash": card.short_hash or None,
    }
    return GenerationRequest.model_validate(common_fields(params, GenerationRequest) | changed)


def _check_task_fields(
    task: Task, params: GenerationParams, files: Mapping[str, InputImage | None]
) -> None:
    """Check that the fields that the task requires are given, and none that it does not take.

    files: the input images by their fields.
    """
    for field in sorted(TASK_FIELDS):
        value = files[field] if field in files else getattr(params, field)
        if value in (None, ""):
            if field in REQUIRED_FIELDS and task.takes(field):
                raise InvalidRequest(field, None, f"given for {task.value}", "missing-field")
        elif not task.takes(field):
            shown = value if isinstance(value, int | float) else "given"  # no text of a prompt
            raise InvalidRequest(field, shown, f"absent for {task.value}", "not-for-this-task")


def _check_prompts(
    task: Task, params: GenerationParams, card: ModelCard, count_tokens: TokenCounter
) -> None:
    if card.reads_prompts and task.requires_prompt and "prompt" not in params.model_fields_set:
        raise InvalidRequest("prompt", None, f"given for {task.value}", "missing-field")
    for field, text in (("prompt", params.prompt), ("negative_prompt", params.negative_prompt)):
        if card.reads_prompts:
            _check_prompt(field, text, params, card, count_tokens)
        elif text:
            bound = f"absent: {card.name} reads no words"
            raise InvalidRequest(field, "given", bound, "not-for-this-model")


def _check_prompt(
    field: str, text: str, params: GenerationParams, card: ModelCard, count_tokens: TokenCounter
) -> None:
    if "\0" in text:
        raise InvalidRequest(field, text, "free of NUL characters", "text-not-printable")
    tokens = prompt_tokens(text, params.prompt_syntax, card, count_tokens)
    tokens += further_tokens(text, params.loras, card)
    if tokens > card.max_prompt_tokens:
        raise InvalidRequest(
            field, f"{tokens} tokens", f"at most {card.max_prompt_tokens} tokens", "prompt-too-long"
        )


def prompt_tokens(
    text: str, syntax: PromptSyntax, card: ModelCard, count_tokens: TokenCounter
) -> int:
    """Return the length of a prompt in tokens, without the words that LoRAs bring along."""
    return parse_prompt(text, syntax).tokens(count_tokens, card.chunk_tokens)


def _outpainting(
    task: Task, params: GenerationParams, card: ModelCard, image: InputImage | None
) -> Outpainting | None:
    if task is not Task.OUTPAINT or image is None:
        return None
    return resolve_outpainting(params, card, (image.width, image.height))


def _resolve_size(
    task: Task,
    params: GenerationParams,
    card: ModelCard,
    image: InputImage | None,
    outpainting: Outpainting | None,
) -> Size:
    if outpainting is not None:
        return outpainting.result.width, outpainting.result.height
    image_size = (image.width, image.height) if image else None
    if task is Task.UPSCALE and image_size:
        return upscaled_size(card, image_size)
    if params.tile_size is not None and image_size:
        return tiled_size(params, card, image_size)
    return target_size((params.width, params.height), card, image_size)


def _check_bounds(
    params: GenerationParams, card: ModelCard, steps: int, strength: float | None
) -> None:
    _check_at_most("steps", steps, card.max_steps, "too-many-steps")
    _check_at_most("n", params.n, card.max_images, "too-many-images")
    _check_at_most("clip_skip", params.clip_skip, card.max_clip_skip, "clip-skip-too-large")
    if params.guidance_start > params.guidance_end:
        bound = f"up to guidance_end, which is {exact(params.guidance_end)}"
        raise InvalidRequest("guidance_start", params.guidance_start, bound, "guidance-interval")
    guidance_scale = _guidance_scale(params, card)
    _check_at_most("guidance_scale", guidance_scale, card.max_guidance_scale, "guidance-too-large")
    if strength is not None:
        check_strength(params, "strength", strength, "steps", steps)


def _default_steps(params: GenerationParams, card: ModelCard, strength: float | None) -> int:
    """Return the model's default, or as many as its default strength needs to leave one."""
    if strength is None or params.strength is not None:
        return card.default_steps
    return min(max(card.default_steps, least_steps(strength)), card.max_steps)


def _guidance_scale(params: GenerationParams, card: ModelCard) -> float:
    asked = params.guidance_scale
    return card.default_guidance_scale if asked is None else asked


def _choice(field: str, name: str | None, default: str, offered: tuple[str, ...]) -> str:
    """Return `name`, or `default` if it is None. Raises `InvalidRequest` if it is not offered."""
    if name is None:
        return default
    if name not in offered:
        raise InvalidRequest(field, name, _one_of(offered), f"unknown-{field}")
    return name


def _check_at_most(field: str, value: float, bound: float, problem: str) -> None:
    if value > bound:
        raise InvalidRequest(field, value, f"at most {exact(bound)}", problem)


def _one_of(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}"
