"""Parameters are resolved within the model's bounds, or refused with the name of a field."""

import math
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import models.sound
import protocol.request.sound
from protocol.errors import InvalidRequest, NotReady
from protocol.request.generation_params import GenerationParams, InputImage, parse_params
from protocol.request.prompts import PromptSyntax, parse_prompt
from protocol.request.request import Decoder, GenerationRequest
from protocol.request.resolve import choose_card, resolve
from protocol.request.sizes import target_size, upscaled_size
from protocol.request.tasks import FIELDS_OF, REQUIRED_FIELDS, Task
from tests.protocol.records import CARD

IMAGE = InputImage(key="inputs/" + "0" * 64, width=64, height=64)
MASK = InputImage(key="inputs/" + "1" * 64, width=64, height=64)
INPUTS = {
    Task.IMG2IMG: (IMAGE, None),
    Task.INPAINT: (IMAGE, MASK),
    Task.OUTPAINT: (IMAGE, None),
    Task.UPSCALE: (IMAGE, None),
    Task.SEMANTIC: (IMAGE, None),
}
NOTHING = (None, None)
ALL_TASKS = CARD.model_copy(
    update={"tasks": tuple(Task), "classes": 10, "max_boxes": 2, "upscale_factor": 2}
)
NO_PROMPTS = ALL_TASKS.model_copy(update={"max_prompt_tokens": 0})  # reads no prompts
OWN: dict[Task, dict[str, object]] = {
    Task.OUTPAINT: {"left": 8},
    Task.CLASS: {"class_id": 9},
    Task.LAYOUT: {"boxes": [{"class": 3, "x": 0.7, "y": 0, "width": 0.3, "height": 1}]},
}


def box(**changes: object) -> dict[str, object]:
    return {"class": 3, "x": 0.0, "y": 0.0, "width": 0.5, "height": 1.0} | changes


T = TypeVar("T")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
likely = st.sampled_from([0, 1, 8, 16, 20, 64, 65, 128, 256, 0.5, 1.0, "ddim", "png", "tiny"])


def count(text: str) -> int:
    return len(text.split())


def outcome_of(act: Callable[[], T]) -> T | InvalidRequest:
    """Return the result of `act`, or its `InvalidRequest`."""
    try:
        return act()
    except InvalidRequest as error:
        return error


@given(
    st.sampled_from(Task),
    st.dictionaries(st.sampled_from([*GenerationParams.model_fields, "x"]), likely | json_values),
)
def test_params_are_resolved_or_refused_with_a_field(task: Task, fields: dict[str, object]) -> None:
    inputs = INPUTS.get(task, NOTHING)
    outcome = outcome_of(
        lambda: resolve(task, parse_params(GenerationParams, fields), ALL_TASKS, count, *inputs)
    )
    if isinstance(outcome, InvalidRequest):
        assert outcome.field.split(".")[0] in {*fields, "prompt", *REQUIRED_FIELDS}
        assert outcome.bound
    else:
        request = outcome
        assert CARD.allows_size(request.width, request.height)
        assert request.steps <= CARD.max_steps
        assert request.n <= CARD.max_images
        assert request.guidance_scale <= CARD.max_guidance_scale
        assert request.sampler in CARD.samplers
        assert request.schedule in CARD.schedules
        prompt = parse_prompt(request.prompt, request.prompt_syntax)
        assert prompt.tokens(count, CARD.chunk_tokens) <= CARD.max_prompt_tokens
        assert request.strength is None or int(request.steps * request.strength) >= 1
        for field, value in fields.items():
            assert value is None or getattr(request, field) == value


@given(st.integers(), st.integers())
def test_size_is_allowed_or_refused(width: int, height: int) -> None:
    outcome = outcome_of(lambda: target_size((width, height), CARD))
    if isinstance(outcome, InvalidRequest):
        assert outcome.field in ("width", "height")
        assert width <= 0 or height <= 0 or not CARD.allows_size(width, height)
    else:
        assert outcome == (width, height)
        assert CARD.allows_size(width, height)


def test_each_request_gets_its_own_seed() -> None:
    requests = [resolve(Task.TXT2IMG, GenerationParams(prompt=""), CARD, count) for _ in range(10)]
    assert len({request.seed for request in requests}) == 10


def test_default_size_is_the_size_of_the_image() -> None:
    assert target_size((None, None), CARD, (128, 96)) == (128, 96)
    assert target_size((64, 64), CARD, (50, 99)) == (64, 64)
    assert target_size((64, None), CARD, (128, 96)) == (64, 48)
    with pytest.raises(InvalidRequest) as refused:
        target_size((None, None), CARD, (50, 96))
    assert refused.value.field == "image"


@pytest.mark.parametrize(
    ("image", "upscaled"), [((16, 51), (32, 102)), ((7, 51), None), ((999, 64), None)]
)
def test_upscaled_size_is_multiplied_by_the_factor(
    image: tuple[int, int], upscaled: tuple[int, int] | None
) -> None:
    outcome = outcome_of(lambda: upscaled_size(ALL_TASKS, image))
    assert outcome == upscaled or (isinstance(outcome, InvalidRequest) and outcome.field == "image")


@pytest.mark.parametrize("task", Task)
def test_each_task_requires_its_own_fields(task: Task) -> None:
    fields = OWN.get(task, {})
    request = resolve(
        task, parse_params(GenerationParams, fields), NO_PROMPTS, count, *INPUTS.get(task, NOTHING)
    )
    assert (request.class_id is not None) == (task is Task.CLASS)
    assert (request.boxes is not None) == (task is Task.LAYOUT)
    assert (request.strength is not None) == task.takes("strength")
    assert GenerationRequest.model_validate_json(request.model_dump_json()) == request
    for field in FIELDS_OF[task] & REQUIRED_FIELDS:
        less = {name: value for name, value in fields.items() if name != field}
        image, mask = INPUTS.get(task, NOTHING)
        image, mask = None if field == "image" else image, None if field == "mask" else mask
        with pytest.raises(InvalidRequest) as refused:
            resolve(task, parse_params(GenerationParams, less), NO_PROMPTS, count, image, mask)
        assert (refused.value.field, refused.value.problem) == (field, "missing-field")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_guidance_scale", 2),
        ("width", 64),
        ("strength", 0.5),
        ("class_id", 1),
        ("boxes", [box()]),
    ],
)
def test_fields_of_other_tasks_are_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        resolve(
            Task.UPSCALE, parse_params(GenerationParams, {field: value}), ALL_TASKS, count, IMAGE
        )
    assert (refused.value.field, refused.value.problem) == (field, "not-for-this-task")


@pytest.mark.parametrize(
    ("task", "fields", "wrong"),
    [
        (Task.CLASS, {"class_id": 10}, "class_id"),
        (Task.LAYOUT, {"boxes": [box(**{"class": 10})]}, "boxes.0.class"),
        (Task.LAYOUT, {"boxes": [box(), box(), box()]}, "boxes"),
        (Task.LAYOUT, {"boxes": [box(), box(x=0.5, width=0.6)]}, "boxes.1.width"),
        (Task.LAYOUT, {"boxes": [box(y=0.5, height=0.6)]}, "boxes.0.height"),
        (Task.LAYOUT, {"boxes": [box(width=0.0)]}, "boxes.0.width"),
        (Task.LAYOUT, {"boxes": []}, "boxes"),
        (Task.LAYOUT, {"boxes": [{"x": 0, "y": 0, "width": 1, "height": 1}]}, "boxes.0.class"),
    ],
)
def test_classes_and_boxes_out_of_bounds_are_refused(
    task: Task, fields: dict[str, object], wrong: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        resolve(task, parse_params(GenerationParams, fields), NO_PROMPTS, count)
    assert refused.value.field == wrong


def test_prompts_are_for_models_that_read_them() -> None:
    image, mask = INPUTS[Task.INPAINT]
    for card, params in (
        (ALL_TASKS, GenerationParams()),
        (NO_PROMPTS, GenerationParams(prompt="x")),
    ):
        with pytest.raises(InvalidRequest) as refused:
            resolve(Task.INPAINT, params, card, count, image, mask)
        assert refused.value.field == "prompt"
    assert resolve(Task.INPAINT, GenerationParams(), NO_PROMPTS, count, image, mask).prompt == ""


def test_decoder_must_be_one_of_the_model() -> None:
    params = GenerationParams(prompt="x", decoder=Decoder.TINY)
    with pytest.raises(InvalidRequest, match='decoder is "tiny", but must be one of full'):
        resolve(Task.TXT2IMG, params, CARD, count)
    both = CARD.model_copy(update={"decoders": tuple(Decoder)})
    assert resolve(Task.TXT2IMG, params, both, count).decoder is Decoder.TINY


def test_prompt_may_fill_its_bound_exactly() -> None:
    bound = CARD.max_prompt_tokens
    resolve(Task.TXT2IMG, GenerationParams(prompt="x " * bound), CARD, count)
    with pytest.raises(InvalidRequest, match=f"{bound + 1} tokens.*at most {bound} tokens"):
        resolve(Task.TXT2IMG, GenerationParams(prompt="x " * (bound + 1)), CARD, count)


def test_syntax_is_not_counted_and_a_break_fills_its_row() -> None:
    card = CARD.model_copy(update={"max_prompt_tokens": 24, "chunk_tokens": 8})
    full = "(a:1.2) b [c] BREAK d BREAK " + "((e)) " * 8
    resolve(Task.TXT2IMG, GenerationParams(prompt=full), card, count)
    with pytest.raises(InvalidRequest, match="25 tokens"):
        resolve(Task.TXT2IMG, GenerationParams(prompt=full + "f"), card, count)
    syntax = "( BREAK ) " * 8  # as text, 24 words
    resolve(
        Task.TXT2IMG, GenerationParams(prompt=syntax, prompt_syntax=PromptSyntax.PLAIN), card, count
    )
    with pytest.raises(InvalidRequest, match="65 tokens"):
        resolve(Task.TXT2IMG, GenerationParams(prompt=syntax + "x"), card, count)


def test_plain_prompts_name_no_loras() -> None:
    prompt = "a cat <lora:unknown:1>"
    params = GenerationParams(
        prompt=prompt, negative_prompt=prompt, prompt_syntax=PromptSyntax.PLAIN
    )
    request = resolve(Task.TXT2IMG, params, CARD, count)
    assert (request.prompt, request.negative_prompt, request.loras) == (prompt, prompt, ())


def test_clip_skip_is_bounded_by_the_card() -> None:
    card = CARD.model_copy(update={"max_clip_skip": 3})
    assert (
        resolve(Task.TXT2IMG, GenerationParams(prompt="", clip_skip=3), card, count).clip_skip == 3
    )
    with pytest.raises(InvalidRequest, match="clip_skip is 4, but must be at most 3"):
        resolve(Task.TXT2IMG, GenerationParams(prompt="", clip_skip=4), card, count)


@pytest.mark.parametrize(
    ("steps", "strength", "accepted"), [(4, 0.25, True), (4, 0.24, False), (1, 1.0, True)]
)
def test_strength_leaves_at_least_one_step(steps: int, strength: float, accepted: bool) -> None:
    params = GenerationParams(prompt="", steps=steps, strength=strength)
    outcome = outcome_of(lambda: resolve(Task.IMG2IMG, params, CARD, count, IMAGE))
    assert accepted == isinstance(outcome, GenerationRequest)
    assert accepted or (isinstance(outcome, InvalidRequest) and outcome.field == "strength")


def test_task_needs_a_model_that_can_do_it() -> None:
    cards = {"tiny": CARD, "larger": ALL_TASKS.model_copy(update={"name": "larger"})}
    assert choose_card(Task.UPSCALE, None, cards, ["tiny"]).name == "larger"
    with pytest.raises(InvalidRequest, match=r"upscale \(larger\); tiny does txt2img") as no:
        choose_card(Task.UPSCALE, "tiny", cards)
    assert (no.value.field, no.value.problem) == ("model", "unsupported-task")
    with pytest.raises(InvalidRequest, match="there is none here"):
        choose_card(Task.CLASS, None, {"tiny": CARD})


def test_upscaling_needs_no_model_but_an_upscaler() -> None:
    with pytest.raises(InvalidRequest) as no:
        choose_card(Task.UPSCALE, None, {"tiny": CARD})
    assert str(no.value) == (
        "upscaler is missing, but must be one of lanczos, nearest: no model here can do upscale"
    )


def test_model_is_the_named_else_a_preferred_else_any() -> None:
    other = CARD.model_copy(update={"name": "other"})
    cards = {"other": other, "tiny": CARD}
    assert choose_card(Task.TXT2IMG, "tiny", cards) is CARD
    assert choose_card(Task.TXT2IMG, None, cards, ["gone", "tiny"]) is CARD
    assert choose_card(Task.TXT2IMG, None, cards) is other
    with pytest.raises(InvalidRequest):
        choose_card(Task.TXT2IMG, "gone", cards)
    with pytest.raises(NotReady):
        choose_card(Task.TXT2IMG, None, {})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "7"])
def test_numbers_are_finite_numbers(value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_params(GenerationParams, {"prompt": "", "guidance_scale": value})
    assert refused.value.field == "guidance_scale"


def test_resolving_a_resolved_request_changes_nothing() -> None:
    first = resolve(Task.TXT2IMG, GenerationParams(prompt="x"), CARD, count)
    fields = first.model_dump(include=set(GenerationParams.model_fields))
    again: GenerationRequest = resolve(
        Task.TXT2IMG, parse_params(GenerationParams, fields), CARD, count
    )
    assert again == first


def test_only_ddim_takes_eta() -> None:
    own = CARD.model_copy(
        update={"samplers": ("ddim", "euler"), "default_sampler": "ddim", "default_eta": 1.0}
    )

    def eta(**fields: object) -> float:
        params = parse_params(GenerationParams, {"prompt": "a cat", **fields})
        return resolve(Task.TXT2IMG, params, own, len).eta

    assert (eta(), eta(eta=0.0), eta(eta=0.3)) == (1.0, 0.0, 0.3)
    assert (eta(sampler="euler"), eta(sampler="euler", eta=0)) == (0.0, 0.0)
    with pytest.raises(InvalidRequest, match=r"eta is 0\.5.*only ddim has it"):
        eta(sampler="euler", eta=0.5)


def test_guidance_rescale_is_between_0_and_1() -> None:
    params = parse_params(GenerationParams, {"prompt": "a cat", "guidance_rescale": 0.7})
    assert resolve(Task.TXT2IMG, params, CARD, len).guidance_rescale == 0.7
    with pytest.raises(InvalidRequest, match="guidance_rescale"):
        parse_params(GenerationParams, {"prompt": "a cat", "guidance_rescale": 1.2})


def test_sampler_with_two_evaluations_is_twice_the_work() -> None:
    own = CARD.model_copy(update={"samplers": ("heun", "euler"), "default_sampler": "euler"})
    works = [
        resolve(
            Task.TXT2IMG,
            parse_params(
                GenerationParams,
                {"prompt": "a cat", "sampler": sampler, "steps": 10, "guidance_scale": 1},
            ),
            own,
            len,
        ).work
        for sampler in ("euler", "heun")
    ]
    assert works[1] == pytest.approx(1.9 * works[0])


def test_audio_format_needs_a_model_with_sound() -> None:
    sounding = CARD.model_copy(update={"outputs": ("image", "sound"), "min_side": 8})
    params = parse_params(
        GenerationParams, {"prompt": "a cat", "audio_format": "flac", "audio_stereo": True}
    )
    asked = resolve(Task.TXT2IMG, params, sounding, len)
    assert (asked.audio_format, asked.audio_stereo) == ("flac", True)
    with pytest.raises(InvalidRequest, match=r"audio_format is .flac.*gives image"):
        resolve(Task.TXT2IMG, params, CARD, len)
    narrow = parse_params(
        GenerationParams, {"prompt": "a cat", "audio_format": "flac", "width": 16}
    )
    with pytest.raises(InvalidRequest, match="width is 16, but must be at least 22 for a sound"):
        resolve(Task.TXT2IMG, narrow, sounding, len)
    with pytest.raises(InvalidRequest, match="audio_format"):
        parse_params(GenerationParams, {"prompt": "a cat", "audio_format": "ogg"})


def test_least_width_of_a_sound_is_that_of_the_models() -> None:
    assert protocol.request.sound.MIN_WIDTH == models.sound.MIN_WIDTH
