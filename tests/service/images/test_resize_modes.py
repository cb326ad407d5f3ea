"""Resize modes beside those of diffusers, which are those of AUTOMATIC1111."""

import numpy as np
import pytest
from diffusers.image_processor import VaeImageProcessor
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from protocol.request.inpainting import ResizeMode
from service.images.resize_modes import Placement, place, placement
from service.images.uploaded_images import SMOOTH

SIDES = st.integers(8, 60)
NAMES = {ResizeMode.STRETCH: "default", ResizeMode.CROP: "crop", ResizeMode.FILL: "fill"}


@given(st.sampled_from(ResizeMode), SIDES, SIDES, SIDES, SIDES, st.integers(0, 9))
def test_image_lies_where_diffusers_places_it(
    mode: ResizeMode, width: int, height: int, to_width: int, to_height: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(pixels)
    where = placement(mode, image.size, (to_width, to_height))
    placed = place(image.resize(where.scaled, SMOOTH), where)
    processor = VaeImageProcessor(resample="lanczos")
    expected = processor.resize(image, to_height, to_width, resize_mode=NAMES[mode])
    assert placed.size == (to_width, to_height)
    corners = where.used.corners
    apart = np.asarray(placed.crop(corners), int) - np.asarray(expected.crop(corners), int)
    assert np.abs(apart).max() <= 1
    assert mode is ResizeMode.FILL or where.covers


@pytest.mark.parametrize(("left", "top"), [(0, 0), (3, 2)])
def test_edges_are_continued(left: int, top: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    where = Placement((5, 4), (9, 8), left, top)
    margins = ((top, 8 - top - 4), (left, 9 - left - 5), (0, 0))
    expected = np.pad(pixels, margins, mode="edge")
    assert np.array_equal(np.asarray(place(Image.fromarray(pixels), where)), expected)


def test_extreme_aspects_keep_a_pixel() -> None:
    assert placement(ResizeMode.FILL, (5000, 1), (64, 64)).scaled == (64, 1)
    assert placement(ResizeMode.FILL, (1, 5000), (64, 64)).scaled == (1, 64)
