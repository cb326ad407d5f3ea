"""Filled masks, beside AUTOMATIC1111's `fill` computed with whole numbers in NumPy.

Its images have 8 bits between all steps, so the rounding of pillow's operations is part of the
arithmetic: libImaging's Convert.c, Paste.c and AlphaComposite.c.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.denoising.fill import fill_masked

CASCADE = [256, 64, 16, 16, 4, 4, 4, 4, 2, 2, 0]
BITS = 7  # of precision that a composition has beyond 8
Ints = NDArray[np.int64]


def expected_fill(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Ints:
    """Blur what is not masked in premultiplied alpha, and put finer blurs over coarser ones."""
    weight = 255 - mask.astype(np.int64)
    opaque = np.dstack([image, np.full(mask.shape, 255)]).astype(np.int64)
    known = by_255(opaque * weight[..., None]).astype(np.uint8)
    filled = np.zeros(known.shape, np.int64)
    for radius in CASCADE:
        filter_ = ImageFilter.GaussianBlur(radius)
        bands = (Image.fromarray(band).filter(filter_) for band in np.moveaxis(known, -1, 0))
        blurred = np.stack([np.asarray(band) for band in bands], axis=-1)
        filled = over(filled, blurred.astype(np.int64))
    return filled[..., :3]


def over(under: Ints, premultiplied: Ints) -> Ints:
    """Put an image over another one with straight alpha."""
    alpha = premultiplied[..., 3:]
    partly = (alpha > 0) & (alpha < 255)
    divided = np.minimum(255 * premultiplied[..., :3] // np.maximum(alpha, 1), 255)
    colours = np.where(partly, divided, premultiplied[..., :3])
    total = 255 * alpha + under[..., 3:] * (255 - alpha)
    share = (alpha * 255 * 255 << BITS) // np.maximum(total, 1)
    mixed = colours * share + under[..., :3] * ((255 << BITS) - share)
    both = np.concatenate([by_255(mixed, BITS), by_255(total)], axis=-1)
    return np.where(alpha > 0, both, under)


def by_255(value: Ints, bits: int = 0) -> Ints:
    """Divide by 255 and by two to the power of `bits`, as pillow rounds."""
    value = value + (128 << bits)
    return ((value >> 8) + value) >> (8 + bits)


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(0, 20), st.integers(4, 20))
def test_colours_flow_in_as_in_automatic1111(seed: int, left: int, side: int) -> None:
    image = np.random.default_rng(seed).integers(60, 200, (40, 48, 3), np.uint8)
    mask = np.zeros((40, 48), np.uint8)
    mask[5 : 5 + side, left : left + side] = 255
    filled = fill_masked(image, mask)
    assert np.array_equal(filled[mask == 0], image[mask == 0])
    assert np.array_equal(filled, expected_fill(image, mask))


@given(st.integers(0, 99), st.integers(1, 255))
def test_grey_masks_are_filled_as_in_automatic1111(seed: int, level: int) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (24, 30, 3), np.uint8)
    mask = random.choice(np.array([0, level, 255], np.uint8), (24, 30))
    filled = fill_masked(image, mask)
    assert np.array_equal(filled, expected_fill(image, mask))


def test_one_colour_fills_with_itself_and_nothing_is_black() -> None:
    image = np.full((32, 32, 3), (10, 200, 90), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = 255
    apart = fill_masked(image, mask).astype(int) - image
    assert np.abs(apart).max() <= 3  # premultiplied colours of faint pixels have few levels
    assert not fill_masked(image, np.full((32, 32), 255, np.uint8)).any()
