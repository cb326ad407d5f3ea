"""What a client sends becomes a request within the model's bounds, or is refused by name."""

import math
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.drafts import Draft, InputImage, choose_card, complete, parse, target_size
from protocol.errors import InvalidRequest, NotReady
from protocol.request import GenerationRequest, Task
from tests.protocol.records import CARD

IMAGE = InputImage(key="inputs/" + "0" * 64, width=64, height=64)
MASK = InputImage(key="inputs/" + "1" * 64, width=64, height=64)
INPUTS = {Task.TXT2IMG: (None, None), Task.IMG2IMG: (IMAGE, None), Task.INPAINT: (IMAGE, MASK)}

T = TypeVar("T")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
likely = st.sampled_from([0, 1, 8, 16, 20, 64, 65, 128, 256, 0.5, 1.0, "ddim", "png", "tiny"])


def words(text: str) -> int:
    return len(text.split())


def outcome_of(act: Callable[[], T]) -> T | InvalidRequest:
    """What came of it, a refusal included."""
    try:
        return act()
    except InvalidRequest as refusal:
        return refusal


@given(
    st.sampled_from(Task),
    st.dictionaries(st.sampled_from([*Draft.model_fields, "x"]), likely | json_values),
)
def test_a_draft_is_completed_or_refused_by_name(task: Task, fields: dict[str, object]) -> None:
    outcome = outcome_of(lambda: complete(task, parse(Draft, fields), CARD, words, *INPUTS[task]))
    if isinstance(outcome, InvalidRequest):
        assert outcome.field.split(".")[0] in {*fields, "prompt"}
        assert outcome.bound
    else:
        request = outcome
        assert CARD.allows_size(request.width, request.height)
        assert request.steps <= CARD.max_steps
        assert request.n <= CARD.max_images
        assert request.guidance_scale <= CARD.max_guidance_scale
        assert request.sampler in CARD.samplers
        assert request.schedule in CARD.schedules
        assert words(request.prompt) <= CARD.max_prompt_tokens
        assert request.strength is None or int(request.steps * request.strength) >= 1
        for field, value in fields.items():
            assert value is None or getattr(request, field) == value


@given(st.integers(), st.integers())
def test_a_size_is_legal_or_refused(width: int, height: int) -> None:
    fields = {"prompt": "", "width": width, "height": height}
    outcome = outcome_of(lambda: target_size(parse(Draft, fields), CARD))
    if isinstance(outcome, InvalidRequest):
        assert outcome.field in ("width", "height")
        assert width <= 0 or height <= 0 or not CARD.allows_size(width, height)
    else:
        assert outcome == (width, height)
        assert CARD.allows_size(width, height)


def test_each_draft_draws_a_seed_of_its_own() -> None:
    requests = [complete(Task.TXT2IMG, Draft(prompt=""), CARD, words) for _ in range(10)]
    assert len({request.seed for request in requests}) == 10


def test_an_image_gives_its_size_unless_another_is_asked_for() -> None:
    assert target_size(Draft(prompt=""), CARD, (128, 96)) == (128, 96)
    assert target_size(Draft(prompt="", width=64, height=64), CARD, (50, 99)) == (64, 64)
    assert target_size(Draft(prompt="", width=64), CARD, (128, 96)) == (64, 96)
    with pytest.raises(InvalidRequest) as refused:
        target_size(Draft(prompt=""), CARD, (50, 96))
    assert refused.value.field == "image"
    with pytest.raises(InvalidRequest) as refused:
        target_size(Draft(prompt="", width=64, height=64), CARD, (50, 99), (50, 98))
    assert refused.value.field == "mask"


def test_a_prompt_may_fill_its_bound_exactly() -> None:
    bound = CARD.max_prompt_tokens
    complete(Task.TXT2IMG, Draft(prompt="x " * bound), CARD, words)
    with pytest.raises(InvalidRequest, match=f"{bound + 1} tokens.*at most {bound} tokens"):
        complete(Task.TXT2IMG, Draft(prompt="x " * (bound + 1)), CARD, words)


@pytest.mark.parametrize(
    ("steps", "strength", "accepted"), [(4, 0.25, True), (4, 0.24, False), (1, 1.0, True)]
)
def test_strength_leaves_at_least_one_step(steps: int, strength: float, accepted: bool) -> None:
    draft = Draft(prompt="", steps=steps, strength=strength)
    outcome = outcome_of(lambda: complete(Task.IMG2IMG, draft, CARD, words, IMAGE))
    assert accepted == isinstance(outcome, GenerationRequest)
    assert accepted or (isinstance(outcome, InvalidRequest) and outcome.field == "strength")


def test_a_task_needs_a_model_that_can_do_it() -> None:
    card = CARD.model_copy(update={"tasks": (Task.TXT2IMG,)})
    with pytest.raises(InvalidRequest) as refused:
        complete(Task.INPAINT, Draft(prompt=""), card, words, IMAGE, MASK)
    assert refused.value.field == "model"


def test_the_model_is_the_one_named_else_a_preferred_else_any() -> None:
    other = CARD.model_copy(update={"name": "other"})
    cards = {"other": other, "tiny": CARD}
    assert choose_card("tiny", cards) is CARD
    assert choose_card(None, cards, ["gone", "tiny"]) is CARD
    assert choose_card(None, cards) is other
    with pytest.raises(InvalidRequest):
        choose_card("gone", cards)
    with pytest.raises(NotReady):
        choose_card(None, {})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "7"])
def test_numbers_are_finite_numbers(value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(Draft, {"prompt": "", "guidance_scale": value})
    assert refused.value.field == "guidance_scale"


def test_completing_a_complete_request_changes_nothing() -> None:
    first = complete(Task.TXT2IMG, Draft(prompt="x"), CARD, words)
    said = first.model_dump(include=set(Draft.model_fields))
    again: GenerationRequest = complete(Task.TXT2IMG, parse(Draft, said), CARD, words)
    assert again == first
