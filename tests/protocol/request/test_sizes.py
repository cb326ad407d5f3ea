"""The size of images: one side given, and masks of another size."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.errors import InvalidRequest
from protocol.request.sizes import check_mask_size, same_aspect, target_size
from tests.service.conftest import CARD

SIDES = st.integers(1, 10_000)


@pytest.mark.parametrize(
    ("requested", "image", "size"),
    [
        ((128, None), None, (128, 128)),
        ((None, 32), None, (32, 32)),
        ((64, None), (4000, 3000), (64, 48)),
        ((None, 64), (4000, 3000), (88, 64)),  # 85.3, in multiples of 8
        ((64, None), (1000, 100), (64, 16)),  # 6.4 is below the smallest side
        ((None, 64), (1000, 100), (256, 64)),  # 640 is above the largest
        ((256, None), (1000, 2000), (256, 128)),  # 512 would be too many pixels
    ],
)
def test_other_side_is_in_proportion(
    requested: tuple[int | None, int | None], image: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    assert target_size(requested, CARD, image) == size


@given(st.integers(1, 300), st.tuples(SIDES, SIDES), st.booleans())
def test_one_side_gives_a_size_of_the_model_or_names_that_side(
    side: int, image: tuple[int, int], is_width: bool
) -> None:
    requested = (side, None) if is_width else (None, side)
    try:
        size = target_size(requested, CARD, image)
    except InvalidRequest as error:
        assert error.field == ("width" if is_width else "height")
        assert side % 8 or not 16 <= side <= 256
    else:
        assert CARD.allows_size(*size)
        assert size[0 if is_width else 1] == side


@given(st.tuples(SIDES, SIDES), st.floats(0.01, 1), st.booleans())
def test_scaled_mask_has_the_aspect_of_its_image(
    image: tuple[int, int], scale: float, rounded_up: bool
) -> None:
    """However the sides are rounded, and whichever of the two is the smaller one."""
    width, height = (int(side * scale) + rounded_up for side in image)
    assume(0 < width < image[0] and 0 < height < image[1])
    assert same_aspect(image, (width, height))
    assert same_aspect((width, height), image)


@pytest.mark.parametrize(
    ("image", "mask"),
    [((64, 64), (64, 63)), ((50, 99), (50, 98)), ((64, 32), (32, 64)), ((512, 512), (256, 260))],
)
def test_mask_of_another_aspect_is_refused_with_both_sizes(
    image: tuple[int, int], mask: tuple[int, int]
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        check_mask_size(image, mask)
    assert raised.value.field == "mask"
    assert f"{mask[0]}x{mask[1]}" in raised.value.message
    assert f"{image[0]}x{image[1]}" in raised.value.message
