"""Uploaded masks: which pixels are marked, no stroke is lost, other conventions get a warning."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import models.denoising.masks
from service.images.masks import MARKED, resize_mask
from service.images.uploaded_images import SMOOTH
from tests.service.images.decoded import mask_of
from tests.service.sample_images import gradient, left_half_white, packed

MAX_PIXELS = 512 * 512
CLEAR, WHITE, BLACK, RED = (0, 0, 0, 0), (255,) * 4, (0, 0, 0, 255), (220, 20, 30, 255)
STROKE = ((10, 12), (50, 44))
Colour = tuple[int, ...]


def codes(image: Image.Image, kind: str = "PNG", **options: object) -> set[str]:
    mask = mask_of(packed(image, kind, **options), MAX_PIXELS)
    assert all(warning.field == "mask" and warning.detail for warning in mask.warnings)
    return {warning.code for warning in mask.warnings}


def photo() -> Image.Image:
    """Return an opaque image with dark, bright and coloured pixels."""
    return gradient().point(lambda value: value * 2).convert("RGBA")


def clear_square() -> Image.Image:
    """Return a white image that is transparent but for its edges."""
    image = Image.new("RGBA", (64, 64), WHITE)
    image.paste(CLEAR, (4, 4, 60, 60))
    return image


def stroke_on(stroke: Colour, background: Colour | Image.Image, width: int = 5) -> Image.Image:
    """Return a stroke on a background, 64 x 64."""
    image = (
        background
        if isinstance(background, Image.Image)
        else Image.new("RGBA", (64, 64), background)
    )
    ImageDraw.Draw(image).line(STROKE, stroke, width)
    return image


# ---- decoding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_is_converted(mode: str) -> None:
    data = packed(gradient().convert(mode))
    assert mask_of(data, MAX_PIXELS).image.mode == "L"


def test_transparent_pixels_are_kept() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    assert mask_of(packed(clear), MAX_PIXELS).image.getextrema() == (0, 0)


# ---- warnings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask",
    [
        stroke_on(WHITE, BLACK, 1),
        stroke_on(WHITE, BLACK).convert("RGB"),
        stroke_on(WHITE, BLACK).convert("L"),
        stroke_on(WHITE, BLACK).convert("1"),
        stroke_on(WHITE, BLACK).convert("P"),
        stroke_on(WHITE, CLEAR),
        stroke_on(WHITE, CLEAR).convert("LA"),
        stroke_on((255, 255, 255, 180), CLEAR),
        stroke_on((200, 200, 200, 255), BLACK),
        left_half_white(),
        Image.new("L", (64, 64), 255),
        Image.new("I;16", (64, 64), 65535),
    ],
)
def test_usual_masks_have_no_warning(mask: Image.Image) -> None:
    assert codes(mask) == set()


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_compression_of_a_usual_mask_has_no_warning(mode: str, quality: int) -> None:
    assert (
        codes(stroke_on(WHITE, BLACK).convert("RGB").convert(mode), "JPEG", quality=quality)
        == set()
    )


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (Image.new("L", (64, 64), 0), {"mask-empty"}),
        (Image.new("L", (64, 64), MARKED - 1), {"mask-empty"}),
        (Image.new("RGBA", (64, 64), CLEAR), {"mask-empty"}),
        # Zeros and ones in place of 0 and 255.
        (left_half_white().point(lambda value: value // 255), {"mask-empty"}),
        (stroke_on(BLACK, WHITE), {"mask-inverted"}),
        (stroke_on(BLACK, WHITE, 1).convert("L"), {"mask-inverted"}),
        (stroke_on(BLACK, CLEAR), {"mask-empty", "mask-transparent"}),
        (stroke_on(CLEAR, BLACK), {"mask-empty", "mask-transparent"}),
        (stroke_on(CLEAR, WHITE), {"mask-transparent"}),
        (clear_square(), {"mask-transparent"}),
        (stroke_on(CLEAR, photo()), {"mask-coloured", "mask-transparent"}),
        (photo(), {"mask-coloured"}),
        (stroke_on(RED, BLACK), {"mask-empty", "mask-coloured"}),
        (stroke_on(RED, CLEAR), {"mask-empty", "mask-coloured", "mask-transparent"}),
        (stroke_on(RED, WHITE), {"mask-inverted", "mask-coloured"}),
        (stroke_on((0, 255, 0, 255), BLACK), {"mask-coloured"}),  # bright enough to be marked
        (stroke_on((0, 255, 0, 255), CLEAR), {"mask-coloured"}),
        (stroke_on(RED, BLACK, 1).convert("P"), {"mask-empty", "mask-coloured"}),
    ],
)
def test_mask_of_another_convention_has_warnings(mask: Image.Image, expected: set[str]) -> None:
    assert codes(mask) == expected


def test_warning_gives_the_convention_and_the_brightest_pixel() -> None:
    mask = mask_of(packed(Image.new("L", (9, 9), 7)), MAX_PIXELS)
    (warning,) = mask.warnings
    assert "white marks what is inpainted" in warning.detail
    assert "brightest pixel of the mask is 7" in warning.detail


# ---- resizing ----------------------------------------------------------------------------------

sides = st.integers(1, 90)
sizes = st.tuples(sides, sides)


def marked(mask: Image.Image) -> NDArray[np.bool_]:
    return np.asarray(mask) >= MARKED


@given(sizes, sizes, st.lists(st.tuples(sides, sides), min_size=1, max_size=4))
def test_every_marked_pixel_is_marked_after_resizing(
    before: tuple[int, int], after: tuple[int, int], points: list[tuple[int, int]]
) -> None:
    mask = Image.new("L", before)
    places = [(x % before[0], y % before[1]) for x, y in points]
    for place in places:
        mask.putpixel(place, 255)
    resized = resize_mask(mask, after)
    assert resized.size == after
    padded = np.pad(marked(resized), 2)
    for x, y in places:
        left, top = x * after[0] // before[0], y * after[1] // before[1]
        assert padded[top : top + 5, left : left + 5].any()


@pytest.mark.parametrize("width", [1, 2, 3, 7])
@pytest.mark.parametrize("after", [(64, 64), (100, 60), (33, 47), (512, 300)])
def test_thin_strokes_are_not_lost(width: int, after: tuple[int, int]) -> None:
    mask = Image.new("L", (512, 300))
    mask.paste(255, (0, 150, 512, 150 + width))
    mask.paste(255, (77, 0, 77 + width, 300))
    resized = marked(resize_mask(mask, after))
    assert resized.any(axis=0).all()
    assert resized.any(axis=1).all()


def test_large_areas_are_resized_as_before() -> None:
    mask = Image.new("L", (200, 200))
    ImageDraw.Draw(mask).ellipse((31, 40, 160, 171), 255)
    ImageDraw.Draw(mask).rectangle((5, 5, 90, 60), 200)
    resized = resize_mask(mask, (77, 51))
    np.testing.assert_array_equal(np.asarray(resized), np.asarray(mask.resize((77, 51), SMOOTH)))
    assert resize_mask(mask, (200, 200)) is mask


def test_service_and_models_mark_the_same_levels() -> None:
    assert (MARKED - 1) / 255 < models.denoising.masks.MARKED <= MARKED / 255
