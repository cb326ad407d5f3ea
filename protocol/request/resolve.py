"""Resolve the parameters a client sent into a generation request. All validation is here, once.

Adds the bounds of the model to those of the fields, fills in defaults and draws the seed. Input
images come in as `InputImage`: decoded, checked and resized to the size of the request."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence

from protocol.errors import InvalidRequest, NotReady
from protocol.request.classes import chosen_boxes, chosen_class
from protocol.request.controls import chosen_controls
from protocol.request.generation_params import GenerationParams, InputImage
from protocol.request.loras import chosen_loras
from protocol.request.model_card import ModelCard, true_name
from protocol.request.multi_pass import aesthetic_score, enlargement, refinement
from protocol.request.prompts import PromptSyntax
from protocol.request.prompts import parse as parse_prompt
from protocol.request.request import (
    SEEDS,
    Decoder,
    GenerationRequest,
)
from protocol.request.samplers import chosen_eta
from protocol.request.sizes import target_size, upscaled_size
from protocol.request.sound import chosen_audio
from protocol.request.tasks import NEEDED, OF_SOME_TASKS, Task

TokenCounter = Callable[[str], int]  # text -> tokens without the end marks


def choose_card(
    task: Task, name: str | None, cards: Mapping[str, ModelCard], preferred: Iterable[str] = ()
) -> ModelCard:
    """The card of the model named; without a name, the first of `preferred` that can do the task,
    else any that can. Raises `InvalidRequest` if it cannot, or none can."""
    if not cards:
        raise NotReady("no worker has published a model yet")
    called = true_name(name, cards)
    if name is not None and called is None:
        raise InvalidRequest("model", name, _one_of(cards), "unknown-model")
    able = {known: card for known, card in cards.items() if task in card.tasks}
    order = [called] if called is not None else [*preferred, *able]
    card = next((able[choice] for choice in order if choice in able), None)
    if card is None:
        raise _unable(task, cards[called or next(iter(cards))], list(able))
    return card


def _unable(task: Task, card: ModelCard, able: list[str]) -> InvalidRequest:
    """The refusal of a task that `card` does not have; `able`: the models that do."""
    bound = (
        f"a model that can do {task} ({', '.join(able) or 'there is none here'}); "
        f"{card.name} does {', '.join(card.tasks)}"
    )
    return InvalidRequest("model", card.name, bound, "unsupported-task")


def complete(
    task: Task,
    draft: GenerationParams,
    card: ModelCard,
    count_tokens: TokenCounter,
    image: InputImage | None = None,
    mask: InputImage | None = None,
    controls: Sequence[InputImage] = (),
) -> GenerationRequest:
    """The whole recipe for `draft`, within the bounds of `card`, which has the task.

    `controls` are the images of the draft's, in their order.

    Raises `InvalidRequest` naming the first field that is out of them.
    """
    _check_fields(task, draft, image, mask)
    draft = chosen_loras(draft, card)
    _check_words(task, draft, card, count_tokens)
    image_size = (image.width, image.height) if image else None
    if task is Task.UPSCALE and image_size:
        width, height = upscaled_size(card, image_size)
    else:
        width, height = target_size((draft.width, draft.height), card, image_size)
    steps = draft.steps or card.default_steps
    strength = (draft.strength or card.default_strength) if task.takes("strength") else None
    guidance_scale = (
        card.default_guidance_scale if draft.guidance_scale is None else draft.guidance_scale
    )
    _at_most("steps", steps, card.max_steps, "too-many-steps")
    _at_most("n", draft.n, card.max_images, "too-many-images")
    _at_most("clip_skip", draft.clip_skip, card.max_clip_skip, "clip-skip-too-large")
    if draft.guidance_start > draft.guidance_end:
        bound = f"up to guidance_end, which is {draft.guidance_end:g}"
        raise InvalidRequest("guidance_start", draft.guidance_start, bound, "guidance-interval")
    _at_most("guidance_scale", guidance_scale, card.max_guidance_scale, "guidance-too-large")
    if strength is not None and int(steps * strength) < 1:
        raise InvalidRequest(
            "strength",
            strength,
            f"at least {1 / steps:.4g}, one of {steps} steps",
            "strength-too-small",
        )
    sampler = _chosen("sampler", draft.sampler, card.default_sampler, card.samplers)
    return GenerationRequest(
        task=task,
        model=card.name,
        prompt=draft.prompt,
        negative_prompt=draft.negative_prompt,
        prompt_syntax=draft.prompt_syntax,
        clip_skip=draft.clip_skip,
        width=width,
        height=height,
        steps=steps,
        sampler=sampler,
        schedule=_chosen("schedule", draft.schedule, card.default_schedule, card.schedules),
        eta=chosen_eta(draft.eta, sampler, card.default_eta),
        guidance_scale=guidance_scale,
        guidance_rescale=draft.guidance_rescale,
        guidance_start=draft.guidance_start,
        guidance_end=draft.guidance_end,
        seed=secrets.randbelow(SEEDS) if draft.seed is None else draft.seed,
        n=draft.n,
        strength=strength,
        image_key=image.key if image else None,
        mask_key=mask.key if mask else None,
        class_id=chosen_class(draft.class_id, card),
        boxes=chosen_boxes(draft.boxes, card),
        previews=draft.previews,
        decoder=Decoder(_chosen("decoder", draft.decoder, Decoder.FULL, card.decoders)),
        loras=draft.loras,
        controls=chosen_controls(draft, card, controls),
        refinement=refinement(draft, card, steps),
        enlargement=enlargement(draft, card, (width, height), steps),
        aesthetic_score=aesthetic_score(draft, card),
        output_format=draft.output_format,
        quality=draft.quality,
        audio_format=chosen_audio(draft.audio_format, card, width),
        audio_stereo=draft.audio_stereo,
        priority=draft.priority,
        deadline_s=draft.deadline_s,
    )


def _check_fields(
    task: Task, draft: GenerationParams, image: InputImage | None, mask: InputImage | None
) -> None:
    """What the task cannot do without is there, and nothing that it has no use for."""
    files = {"image": image, "mask": mask}
    for field in sorted(OF_SOME_TASKS):
        value = files[field] if field in files else getattr(draft, field)
        if value in (None, ""):
            if field in NEEDED and task.takes(field):
                raise InvalidRequest(field, None, f"given for {task.value}", "missing-field")
        elif not task.takes(field):
            shown = value if isinstance(value, int | float) else "given"  # no words of a prompt
            raise InvalidRequest(field, shown, f"absent for {task.value}", "not-for-this-task")


def _check_words(
    task: Task, draft: GenerationParams, card: ModelCard, count_tokens: TokenCounter
) -> None:
    if card.reads_words and task.takes("prompt") and "prompt" not in draft.model_fields_set:
        raise InvalidRequest("prompt", None, f"given for {task.value}", "missing-field")
    for field, text in (("prompt", draft.prompt), ("negative_prompt", draft.negative_prompt)):
        if card.reads_words:
            _check_prompt(field, text, draft.prompt_syntax, card, count_tokens)
        elif text:
            bound = f"absent: {card.name} reads no words"
            raise InvalidRequest(field, "given", bound, "not-for-this-model")


def _check_prompt(
    field: str, text: str, syntax: PromptSyntax, card: ModelCard, count_tokens: TokenCounter
) -> None:
    if "\0" in text:
        raise InvalidRequest(field, text, "free of NUL characters", "text-not-printable")
    tokens = parse_prompt(text, syntax).tokens(count_tokens, card.chunk_tokens)
    if tokens > card.max_prompt_tokens:
        raise InvalidRequest(
            field, f"{tokens} tokens", f"at most {card.max_prompt_tokens} tokens", "prompt-too-long"
        )


def _chosen(field: str, name: str | None, default: str, offered: tuple[str, ...]) -> str:
    if name is None:
        return default
    if name not in offered:
        raise InvalidRequest(field, name, _one_of(offered), f"unknown-{field}")
    return name


def _at_most(field: str, value: float, bound: float, problem: str) -> None:
    if value > bound:
        raise InvalidRequest(field, value, f"at most {bound:g}", problem)


def _one_of(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}"
