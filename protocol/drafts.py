"""From what a client sent to what a worker draws: all validation, once, for every dialect.

A `Draft` has the fields' own bounds; `complete` adds the model's, fills in every default and draws
the seed. Images come in as `InputImage`: decoded, checked and brought to the size of the request.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from protocol.catalogue import ModelCard
from protocol.errors import InvalidRequest, NotReady
from protocol.keys import INPUT_KEY, OutputFormat
from protocol.record import Record
from protocol.refusals import first_refusal
from protocol.request import (
    SEEDS,
    Deadline,
    GenerationRequest,
    GuidanceScale,
    ImageCount,
    Name,
    Priority,
    Prompt,
    Quality,
    Seed,
    Share,
    Side,
    Steps,
    Strength,
    Task,
)

__all__ = ["Draft", "InputImage", "choose_card", "complete", "parse", "target_size"]

DEFAULT_QUALITY = 90

Size = tuple[int, int]  # width, height in pixels
TokenCounter = Callable[[str], int]  # text -> tokens without the end marks

D = TypeVar("D", bound="Draft")


class Draft(Record):
    """What a client may say. Only the prompt must be said; the rest takes the model's defaults."""

    prompt: Prompt = Field(description="What the picture shows.", examples=["a slice of pizza"])
    negative_prompt: Prompt = Field(default="", description="What the picture should not show.")
    model: Name | None = Field(
        default=None, description="A name from /v1/models; default: the model being served."
    )
    width: Side | None = Field(
        default=None, description="Pixels; a multiple of the model's size_multiple."
    )
    height: Side | None = Field(
        default=None, description="Pixels; a multiple of the model's size_multiple."
    )
    steps: Steps | None = Field(default=None, description="Denoising steps.")
    sampler: Name | None = Field(default=None, description="A name from /v1/samplers.")
    schedule: Name | None = Field(
        default=None, description="How timesteps are spaced; a name from /v1/samplers."
    )
    guidance_scale: GuidanceScale | None = Field(
        default=None,
        description="How strictly the prompt is followed; 1 or less turns guidance off.",
    )
    guidance_start: Share = Field(
        default=0.0,
        description="Share of the steps that is left unguided at the start: faster, approximate.",
    )
    guidance_end: Share = Field(
        default=1.0,
        description="Share of the steps after which guidance ends; steps without it cost half.",
    )
    seed: Seed | None = Field(
        default=None,
        description="The same request and seed give the same picture. Default: drawn at random.",
    )
    n: ImageCount = Field(
        default=1, description="How many pictures; picture i is drawn from seed + i."
    )
    strength: Strength | None = Field(
        default=None,
        description="img2img and inpaint only: how far to leave the image behind, above 0 up to 1.",
    )
    output_format: OutputFormat = Field(
        default=OutputFormat.PNG, description="The file format of the pictures."
    )
    quality: Quality = Field(
        default=DEFAULT_QUALITY, description="Of JPEG and WebP files; PNG is lossless."
    )
    priority: Priority = Field(
        default=Priority.NORMAL, description="Who goes first: high, normal or low."
    )
    deadline_s: Deadline | None = Field(
        default=None,
        description="Seconds after which nobody waits any more: what has not finished is dropped.",
    )


class InputImage(Record):
    """A client's image, ready for the worker: a PNG of ours under `key`. Sizes in pixels."""

    key: Annotated[str, Field(pattern=INPUT_KEY)]
    width: Side
    height: Side


def parse(kind: type[D], fields: Mapping[str, object]) -> D:
    """`fields`, as read from JSON, as a draft of that kind.

    Raises `InvalidRequest` naming the first wrong field.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise first_refusal(error) from error


def choose_card(
    name: str | None, cards: Mapping[str, ModelCard], preferred: Iterable[str] = ()
) -> ModelCard:
    """The card of the model named; without a name, the first there is of `preferred`, else any."""
    if not cards:
        raise NotReady("no worker has published a model yet")
    if name is None:
        return next(
            (cards[choice] for choice in preferred if choice in cards), next(iter(cards.values()))
        )
    if name not in cards:
        raise InvalidRequest("model", name, _one_of(cards), "unknown-model")
    return cards[name]


def target_size(
    draft: Draft, card: ModelCard, image_size: Size | None = None, mask_size: Size | None = None
) -> Size:
    """The pictures' width and height: as asked, else of the image given, else the model's default.

    Raises `InvalidRequest` unless the model can draw that size, and any mask is of the image's.
    """
    if image_size and mask_size and image_size != mask_size:
        bound = f"of the image's size, {_x(image_size)}"
        raise InvalidRequest("mask", _x(mask_size), bound, "mask-size")
    width, height = image_size or (card.default_width, card.default_height)
    width, height = draft.width or width, draft.height or height
    if image_size == (width, height) and not card.allows_size(width, height):
        bound = (
            f"of a size the model can draw ({_size_bound(card)}), "
            "or sent with the width and height to resize it to"
        )
        raise InvalidRequest("image", _x(image_size), bound, "image-size")
    for field, side in (("width", width), ("height", height)):
        if side % card.size_multiple:
            raise InvalidRequest(
                field, side, f"a multiple of {card.size_multiple}", "size-not-a-multiple"
            )
        if not card.min_side <= side <= card.max_side:
            raise InvalidRequest(
                field, side, f"between {card.min_side} and {card.max_side}", "size-out-of-range"
            )
    if width * height > card.max_pixels:
        raise InvalidRequest(
            "width",
            _x((width, height)),
            f"so that width x height is at most {card.max_pixels}",
            "too-many-pixels",
        )
    return width, height


def complete(
    task: Task,
    draft: Draft,
    card: ModelCard,
    count_tokens: TokenCounter,
    image: InputImage | None = None,
    mask: InputImage | None = None,
) -> GenerationRequest:
    """The whole recipe for `draft`, within the bounds of `card`.

    Raises `InvalidRequest` naming the first field that is out of them.
    """
    if task not in card.tasks:
        raise InvalidRequest(
            "model", card.name, f"a model that can do {task.value}", "unsupported-task"
        )
    _check_inputs(task, draft, image, mask)
    image_size = (image.width, image.height) if image else None
    width, height = target_size(draft, card, image_size)
    steps = draft.steps or card.default_steps
    strength = (draft.strength or card.default_strength) if task.takes_image else None
    guidance_scale = (
        card.default_guidance_scale if draft.guidance_scale is None else draft.guidance_scale
    )
    _at_most("steps", steps, card.max_steps, "too-many-steps")
    _at_most("n", draft.n, card.max_images, "too-many-images")
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
    for field, text in (("prompt", draft.prompt), ("negative_prompt", draft.negative_prompt)):
        _check_prompt(field, text, card, count_tokens)
    return GenerationRequest(
        task=task,
        model=card.name,
        prompt=draft.prompt,
        negative_prompt=draft.negative_prompt,
        width=width,
        height=height,
        steps=steps,
        sampler=_chosen("sampler", draft.sampler, card.default_sampler, card.samplers),
        schedule=_chosen("schedule", draft.schedule, card.default_schedule, card.schedules),
        guidance_scale=guidance_scale,
        guidance_start=draft.guidance_start,
        guidance_end=draft.guidance_end,
        seed=secrets.randbelow(SEEDS) if draft.seed is None else draft.seed,
        n=draft.n,
        strength=strength,
        image_key=image.key if image else None,
        mask_key=mask.key if mask else None,
        output_format=draft.output_format,
        quality=draft.quality,
        priority=draft.priority,
        deadline_s=draft.deadline_s,
    )


def _check_inputs(
    task: Task, draft: Draft, image: InputImage | None, mask: InputImage | None
) -> None:
    """The image, mask and strength that belong to the task are there, and no others."""
    for field, given, wanted in (
        ("image", image, task.takes_image),
        ("mask", mask, task.takes_mask),
    ):
        if wanted and given is None:
            raise InvalidRequest(field, None, f"given for {task.value}", "missing-field")
        if given is not None and not wanted:
            raise InvalidRequest(field, "given", f"absent for {task.value}", "not-for-this-task")
    if draft.strength is not None and not task.takes_image:
        raise InvalidRequest(
            "strength", draft.strength, f"absent for {task.value}", "not-for-this-task"
        )


def _check_prompt(field: str, text: str, card: ModelCard, count_tokens: TokenCounter) -> None:
    if "\0" in text:
        raise InvalidRequest(field, text, "free of NUL characters", "text-not-printable")
    tokens = count_tokens(text)
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


def _x(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _size_bound(card: ModelCard) -> str:
    return (
        f"sides from {card.min_side} to {card.max_side} in multiples of {card.size_multiple}, "
        f"at most {card.max_pixels} pixels"
    )
