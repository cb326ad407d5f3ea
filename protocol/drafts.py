"""From what a client sent to what a worker draws: all validation, once, for every dialect.

A `Draft` has the fields' own bounds; `complete` adds the model's, fills in every default and draws
the seed. Images come in as `InputImage`: decoded, checked and brought to the size of the request.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from protocol.catalogue import ModelCard, true_name
from protocol.classes import AskedBoxes, ClassWord, chosen_boxes, chosen_class
from protocol.controls import chosen_controls
from protocol.errors import InvalidRequest, NotReady
from protocol.keys import INPUT_KEY, AudioFormat, OutputFormat
from protocol.loras import chosen_loras
from protocol.passes import HiresScale, aesthetic_score, enlargement, refinement
from protocol.prompts import PromptSyntax
from protocol.prompts import parse as parse_prompt
from protocol.record import Record
from protocol.refusals import first_refusal
from protocol.request import (
    MOST_CONTROLS,
    SEEDS,
    ClipSkip,
    Control,
    Cut,
    Deadline,
    Decoder,
    GenerationRequest,
    GuidanceScale,
    ImageCount,
    Loras,
    Name,
    Priority,
    Prompt,
    Quality,
    Score,
    Seed,
    Share,
    Side,
    Steps,
    Strength,
)
from protocol.samplers import chosen_eta
from protocol.sizes import target_size, upscaled_size
from protocol.sound import chosen_audio
from protocol.tasks import NEEDED, OF_SOME_TASKS, Task

__all__ = ["Draft", "InputImage", "choose_card", "complete", "parse"]

DEFAULT_QUALITY = 90

TokenCounter = Callable[[str], int]  # text -> tokens without the end marks

D = TypeVar("D", bound="Draft")


class Draft(Record):
    """What a client may say. What is left out and not of the task's own takes a default."""

    prompt: Prompt = Field(
        default="", description="What the picture shows.", examples=["a slice of pizza"]
    )
    negative_prompt: Prompt = Field(default="", description="What the picture should not show.")
    prompt_syntax: PromptSyntax = Field(
        default=PromptSyntax.WEIGHTS,
        description="weights: (word:1.3), [less], BREAK and <lora:name:0.8> have their meaning; "
        "plain: prompts are nothing but words.",
    )
    clip_skip: ClipSkip = Field(
        default=0,
        description="Layers of the text encoder that are left out at its end, beyond the model's "
        "own way.",
    )
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
    eta: Share | None = Field(
        default=None, description="Fresh noise in each step of ddim, from none (0) to all (1)."
    )
    guidance_scale: GuidanceScale | None = Field(
        default=None,
        description="How strictly the prompt is followed; 1 or less turns guidance off.",
    )
    guidance_rescale: Share = Field(
        default=0.0,
        description="How far guidance is kept from raising contrast, from not at all to 1.",
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
    class_id: ClassWord | None = Field(
        default=None, description="Of class only: what to show, a number below the model's classes."
    )
    boxes: AskedBoxes | None = Field(
        default=None,
        description="Of layout only: what is where, a list of {class, x, y, width, height}.",
    )
    decoder: Decoder = Field(
        default=Decoder.FULL,
        description="full, or tiny where the model's decoders say so: faster, with less detail.",
    )
    loras: Loras = Field(
        default=(),
        description="LoRAs to draw with: a list of {name, weight}, their names among "
        "the model's loras. In a prompt, <lora:name:0.8> says the same.",
    )
    controls: tuple[Control, ...] | None = Field(
        default=None,
        max_length=MOST_CONTROLS,
        description="txt2img, img2img and inpaint only: pictures that say where things are to be, "
        "a list of {model, image, weight, start, end}.",
    )
    previews: bool = Field(
        default=False,
        description="Whether a running job shows small pictures of how it comes on.",
    )
    refiner: Name | None = Field(
        default=None,
        description="txt2img only: who takes over the last steps; one of the model's refiners.",
    )
    refiner_start: Cut | None = Field(
        default=None,
        description="Share of the noise schedule after which the refiner goes on; default 0.8.",
    )
    aesthetic_score: Score | None = Field(
        default=None, description="What a refiner is told that the picture deserves; default 6."
    )
    hires_scale: HiresScale | None = Field(
        default=None,
        description="txt2img only: draw at width x height, scale up by this, and draw once more.",
    )
    hires_steps: Steps | None = Field(
        default=None, description="Steps of the second pass of hires_scale; default: steps."
    )
    hires_strength: Strength | None = Field(
        default=None,
        description="How far the second pass of hires_scale may leave the first; default 0.7.",
    )
    output_format: OutputFormat = Field(
        default=OutputFormat.PNG, description="The file format of the pictures."
    )
    quality: Quality = Field(
        default=DEFAULT_QUALITY, description="Of JPEG and WebP files; PNG is lossless."
    )
    audio_format: AudioFormat | None = Field(
        default=None,
        description="For models that draw sounds: the picture as a wav, flac or mp3, too.",
    )
    audio_stereo: bool = Field(
        default=False, description="Left is what green shows, right what blue does."
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
    draft: Draft,
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
    task: Task, draft: Draft, image: InputImage | None, mask: InputImage | None
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


def _check_words(task: Task, draft: Draft, card: ModelCard, count_tokens: TokenCounter) -> None:
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
