"""Reading of Iconify packages, rendering, and attribution."""

import json
from pathlib import Path

import numpy as np
import pytest

from training import data
from training.data import EmojiImages, render
from training.icons.sets import read_attribution, read_icons

DATA = {
    "prefix": "noto",
    "width": 32,
    "height": 32,
    "icons": {
        "red-square": {"body": '<path fill="#f00" d="M0 0h32v32H0z"/>'},
        "wide": {"body": '<path fill="#00f" d="M0 0h64v32H0z"/>', "width": 64},
        "broken": {"body": "<path"},
    },
    "aliases": {"crimson-square": {"parent": "red-square"}},
}
BROKEN, RED_SQUARE, WIDE = read_icons("noto", DATA)


def test_icon_inherits_the_size_of_its_set() -> None:
    assert (RED_SQUARE.name, RED_SQUARE.width, RED_SQUARE.height) == ("red-square", 32, 32)
    assert (WIDE.width, WIDE.height) == (64, 32)


def test_rendering_fills_the_canvas_in_the_right_colour() -> None:
    pixels = render(RED_SQUARE, 16)
    assert pixels is not None
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (255, 0, 0)).all()


def test_wide_icon_is_centred_on_white() -> None:
    pixels = render(WIDE, 16)
    assert pixels is not None
    assert (pixels[:4] == 255).all()
    assert (pixels[12:] == 255).all()
    assert (pixels[4:12] == (0, 0, 255)).all()


def test_invalid_svg_renders_to_none() -> None:
    assert render(BROKEN, 16) is None


def test_attribution_is_read_from_the_package(tmp_path: Path) -> None:
    info = {
        "name": "Noto Emoji",
        "author": {"name": "Google Inc", "url": "https://example.org/noto"},
        "license": {"spdx": "Apache-2.0", "url": "https://example.org/licence"},
    }
    package = {"name": "@iconify-json/noto", "version": "1.2.3"}
    (tmp_path / "info.json").write_text(json.dumps(info))
    (tmp_path / "package.json").write_text(json.dumps(package))
    attribution = read_attribution(tmp_path)
    assert attribution.author == "Google Inc"
    assert attribution.licence == "Apache-2.0"
    assert attribution.version == "1.2.3"


def test_cache_returns_the_saved_data(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    art = EmojiImages(
        pixels, [["pizza", "a pizza"], ["cat"]], np.array([8.0, 0.25]), ["flat", "noto"]
    )
    art.save(tmp_path)
    loaded = EmojiImages.load(tmp_path)
    assert (loaded.pixels == pixels).all()
    assert loaded.captions == art.captions
    assert (loaded.weights == art.weights).all()
    assert loaded.styles == art.styles


def test_packed_images_are_the_same(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), dtype=np.uint8)
    art = EmojiImages(pixels, [["pizza"], ["cat"]], np.array([8.0, 0.25]), ["flat", "noto"])
    art.pack(tmp_path / "packed" / "images.zip")
    unpacked = EmojiImages.unpack(tmp_path / "packed" / "images.zip")
    assert (unpacked.pixels == pixels).all()
    assert unpacked.captions == art.captions
    assert (unpacked.weights == art.weights).all()
    assert unpacked.styles == art.styles
    assert unpacked.every(2).captions == [["pizza"]]
    assert (unpacked.every(2).pixels == pixels[:1]).all()


def test_images_are_kept_after_the_archive_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.full((1, 8, 8, 3), 200, np.uint8)
    pixels[0, ::2] = 100
    art = EmojiImages(pixels, [["pizza"]], np.ones(1), ["flat"])
    monkeypatch.setattr(data, "PACKED", tmp_path / "images.zip")
    art.pack(data.PACKED)
    assert (data.kept_images(tmp_path, 4).pixels == 150).all()
    data.PACKED.unlink()
    assert (data.kept_images(tmp_path, 4).pixels == 150).all()
