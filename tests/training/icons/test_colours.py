"""Names of the colours of icons, and icons in other colours."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.training.icons.test_captions import LABELS
from training.data import RECOLOURED_STYLE, EmojiImages
from training.icons.captions import captions, coloured_captions
from training.icons.colours import HUES, Hsv, colour_name, distance, in_colours, main_hue

WHITE = (255, 255, 255)
# Main colours of Twemoji.
RED, GREEN, YELLOW, BLUE = (221, 46, 68), (119, 178, 85), (255, 204, 77), (85, 172, 238)


def icon(*colours: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Return a white image (32, 32, 3) with bands of the colours in its middle."""
    pixels = np.full((32, 32, 3), 255, np.uint8)
    for band, colour in zip(np.array_split(np.arange(8, 24), len(colours)), colours, strict=True):
        pixels[band, 8:24] = colour
    return pixels


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        *((RED, "red"), (GREEN, "green"), (YELLOW, "yellow"), (BLUE, "blue")),
        *(((170, 142, 214), "purple"), ((234, 89, 110), "red"), ((244, 144, 12), "orange")),
        *(((128, 84, 40), "brown"), ((30, 30, 30), "black"), ((153, 153, 153), "grey")),
        ((225, 232, 237), "white"),
    ],
)
def test_a_colour_has_its_common_name(colour: tuple[int, int, int], name: str) -> None:
    assert colour_name(icon(colour)) == name


@pytest.mark.parametrize("colours", [(RED, GREEN), (YELLOW, BLUE), (RED, GREEN, BLUE)])
def test_an_icon_of_several_colours_has_no_colour(
    colours: tuple[tuple[int, int, int], ...],
) -> None:
    assert colour_name(icon(*colours)) is None
    assert in_colours(icon(*colours)) == {}


def test_a_blank_image_has_no_colour() -> None:
    assert colour_name(icon(WHITE)) is None
    assert in_colours(icon(WHITE)) == {}


@pytest.mark.parametrize("colour", [RED, GREEN, YELLOW, BLUE])
def test_an_icon_gets_every_other_colour(colour: tuple[int, int, int]) -> None:
    copies = in_colours(icon(colour))
    assert colour_name(icon(colour)) not in copies
    assert len(copies) >= len(HUES) - 2
    for name, pixels in copies.items():
        hue = main_hue(Hsv.of(pixels))
        assert hue is not None
        assert distance(hue, HUES[name]) < 3
        assert np.array_equal(pixels[0, 0], WHITE)
        assert (Hsv.of(pixels).value - Hsv.of(icon(colour)).value).max() < 0.01


def test_other_hues_of_an_icon_stay() -> None:
    pixels = icon(RED, RED, RED, RED, BLUE)
    green = in_colours(pixels)["green"]
    assert np.abs(green[23, 12].astype(int) - BLUE).max() <= 3
    assert distance(Hsv.of(green).hue[10, 12], HUES["green"]) < 3


def test_captions_tell_the_colour_unless_the_name_does() -> None:
    assert "red car" in captions("automobile", "noto", LABELS, "red")
    assert "a red car" in captions("automobile", "noto", LABELS, "red")
    assert not any("pink" in text for text in captions("red heart", "noto", LABELS, "pink"))
    assert coloured_captions("automobile", "orange") == [
        *("orange automobile", "orange car", "an orange automobile", "an orange car")
    ]


def test_only_everyday_icons_of_one_style_are_copied_in_colours_that_no_icon_has() -> None:
    names = ["red heart", "automobile", "input symbols", "automobile", "blue automobile"]
    styles = [RECOLOURED_STYLE] * 3 + ["noto", "noto"]
    pixels = np.stack([icon(RED)] * 5)
    art = EmojiImages(pixels, [[name] for name in names], np.full(5, 4.0), styles)
    copies = art.with_other_colours()
    assert copies.captions[:5] == art.captions
    assert np.array_equal(copies.pixels[:5], pixels)
    added = [texts[0] for texts in copies.captions[5:]]
    assert set(added) == {
        f"{colour} automobile" for colour in in_colours(icon(RED)) if colour != "blue"
    }
    assert copies.weights[5:].sum() <= 0.5 * 4.0
    assert len(copies.weights) == len(copies.styles) == len(copies.pixels)


def test_images_without_everyday_icons_stay_as_they_are() -> None:
    art = EmojiImages(icon(RED)[None], [["input symbols"]], np.ones(1), [RECOLOURED_STYLE])
    assert art.with_other_colours() is art
