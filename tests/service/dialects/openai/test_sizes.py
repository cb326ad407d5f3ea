"""Sizes that stand for those of OpenAI's models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidRequest
from service.dialects.openai.sizes import FIXED_SIZES, possible_size
from service.dialects.sizes import best_size
from tests.service.conftest import CARD

LARGE = CARD.model_copy(
    update={
        "default_width": 512,
        "default_height": 512,
        "min_side": 64,
        "max_side": 2048,
        "max_pixels": 2**20,
    }
)


@given(st.tuples(st.integers(1, 9999), st.integers(1, 9999)))
def test_the_best_size_is_always_possible(ratio: tuple[int, int]) -> None:
    for card in (CARD, LARGE):
        assert card.allows_size(*best_size(ratio, card))


@given(st.floats(0.4, 2.5))
def test_the_best_size_has_the_aspect_and_about_the_default_area(aspect: float) -> None:
    width, height = best_size((round(9999 * aspect), 9999), LARGE)
    assert width / height == pytest.approx(aspect, rel=0.02)
    assert width * height == pytest.approx(512 * 512, rel=0.2)


@pytest.mark.parametrize("size", sorted(FIXED_SIZES))
def test_openais_sizes_are_exact_where_the_model_can(size: tuple[int, int]) -> None:
    able = LARGE.model_copy(update={"max_pixels": 2**22})
    assert possible_size(size, able, any_model=True) == size
    assert possible_size(size, able, any_model=False) == size


def test_other_sizes_are_exact_or_refused() -> None:
    assert possible_size((1024, 1536), LARGE, any_model=True) != (1024, 1536)
    for size, any_model in (((1024, 1536), False), ((1000, 1536), True), ((2048, 2048), True)):
        with pytest.raises(InvalidRequest, match="size"):
            possible_size(size, LARGE, any_model)
