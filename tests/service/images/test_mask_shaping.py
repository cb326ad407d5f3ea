"""Changes of a mask, beside an independent computation with scipy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from service.images.mask_shaping import blur_mask, grow_mask, shape_mask

Mask = NDArray[np.uint8]


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Generate masks of rectangles in any grey, also of one row or column."""
    width, height = draw(st.integers(1, 50)), draw(st.integers(1, 50))
    mask = np.full((height, width), draw(st.sampled_from((0, 0, 255))), np.uint8)
    for _ in range(draw(st.integers(0, 3))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        right, bottom = left + draw(st.integers(1, 20)), top + draw(st.integers(1, 20))
        mask[top:bottom, left:right] = draw(st.integers(0, 255))
    return mask


def pixels(image: Image.Image) -> Mask:
    return np.asarray(image)


@given(masks(), st.integers(1, 12))
def test_blur_is_the_gaussian_of_automatic1111(mask: Mask, sigma: int) -> None:
    """Compare with cv2.GaussianBlur as it calls it: cut at 2.5 sigma, edges mirrored."""
    reach = int(2.5 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    blurred = mask.astype(float)
    for axis in (1, 0):
        kernel = weights / weights.sum()
        blurred = ndimage.convolve1d(blurred, kernel, axis=axis, mode="mirror")
    assert np.abs(pixels(blur_mask(Image.fromarray(mask), sigma)) - blurred).max() < 1.01


@given(masks(), st.integers(0, 64))
def test_grow_and_shrink_are_filters_over_a_square(mask: Mask, by: int) -> None:
    image, side = Image.fromarray(mask), 2 * by + 1
    largest = ndimage.maximum_filter(mask, side, mode="constant", cval=0)
    smallest = ndimage.minimum_filter(mask, side, mode="constant", cval=255)
    assert np.array_equal(pixels(grow_mask(image, by)), largest)
    assert np.array_equal(pixels(grow_mask(image, -by)), smallest)


@given(masks())
def test_hard_masks_have_two_levels_and_soft_ones_keep_theirs(mask: Mask) -> None:
    image = Image.fromarray(mask)
    hard = pixels(shape_mask(image, hard=True, invert=True, grow=0))
    assert np.array_equal(hard, np.where(mask >= 128, 0, 255))
    soft = pixels(shape_mask(image, hard=False, invert=True, grow=0))
    assert np.array_equal(soft, 255 - mask)


def test_no_blur_and_no_growth_change_nothing() -> None:
    mask = Image.new("L", (5, 4), 77)
    assert blur_mask(mask, 0) is mask
    assert grow_mask(mask, 0) is mask
