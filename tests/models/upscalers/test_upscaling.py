"""Upscaling in tiles: the same image as at once, of any size, by networks and filters."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from models.upscalers.compact import CompactConfig
from models.upscalers.config import UpscalerConfig
from models.upscalers.resampling import Pixels
from models.upscalers.rrdb import RRDBConfig
from models.upscalers.tiles import DROPPED, OVERLAP, SIDE, Tile, paste, tiles_of
from models.upscalers.upscaling import Method, Run, Upscaler, Upscaling, passes, steps_of
from tests.models.upscalers.reference import compact, rrdb

CPU = torch.device("cpu")


def upscaler(network: Run, config: UpscalerConfig) -> Upscaler:
    return Upscaler("tiny", config, network, CPU, torch.float32)


def enlarged(*inputs: Tensor) -> Tensor:
    """Double each pixel."""
    (x,) = inputs
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


DOUBLE = upscaler(enlarged, CompactConfig(upscale=2))


def photo(width: int, height: int) -> Pixels:
    """Return a smooth image with some detail."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    return np.array(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def run(pixels: Pixels, size: tuple[int, int], *methods: Method, blend: float = 0.5) -> Pixels:
    upscaling = Upscaling(pixels, size, methods, blend)
    for _ in range(upscaling.steps):
        assert not upscaling.done
        upscaling.advance()
    assert upscaling.done
    return upscaling.pixels


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (compact(scale=2, convolutions=8), CompactConfig(upscale=2)),
        (rrdb(scale=2), RRDBConfig(doublings=1)),
        (rrdb(scale=1, shuffle=4), RRDBConfig(doublings=2, unshuffle=4)),
    ],
    ids=["compact", "rrdb", "rrdb of folded pixels"],
)
def test_tiles_equal_the_whole_image(network: Run, config: UpscalerConfig) -> None:
    pixels = photo(SIDE + 41, 40)
    one = upscaler(network, config)
    whole, (height, width, _) = one.enlarge(pixels), pixels.shape
    found = run(pixels, (config.scale * width, config.scale * height), one)
    assert len(tiles_of((width, height))) == 2
    assert np.abs(found - np.clip(whole, 0, 255)).max() <= 1


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    multiple=st.sampled_from([1, 2, 4, 7, 16]),
)
def test_tiles_cover_the_image_and_are_of_one_size(width: int, height: int, multiple: int) -> None:
    tiles = tiles_of((width, height), multiple)
    up = [-(-tile.height // multiple) for tile in tiles], [-(-t.width // multiple) for t in tiles]
    assert [len(set(sizes)) for sizes in up] == [1, 1]
    assert all(tile.top % multiple == tile.left % multiple == 0 for tile in tiles)
    assert max(tile.top + tile.height for tile in tiles) == height
    assert max(tile.left + tile.width for tile in tiles) == width
    for before, after in pairwise(tiles):
        if before.top == after.top:
            assert before.left < after.left <= before.left + SIDE - OVERLAP


@settings(max_examples=25, deadline=None)
@given(width=st.integers(1, 600), height=st.integers(1, 600))
def test_every_pixel_comes_from_inside_a_tile(width: int, height: int) -> None:
    """A constant per tile shows which tiles a pixel is mixed from; edges count as wrong."""
    canvas = np.full((height, width, 1), 255, np.uint8)
    for tile in tiles_of((width, height)):
        values = np.full((tile.height, tile.width, 1), 10, np.float32)
        for axis, (start, total) in enumerate(((tile.top, height), (tile.left, width))):
            edge = np.moveaxis(values, axis, 0)
            if start > 0:
                edge[:DROPPED] = 200
            if start + len(edge) < total:
                edge[-DROPPED:] = 200
        paste(canvas, tile, values, 1)
    assert (canvas == 10).all()


def test_one_by_one_pixel_is_enlarged() -> None:
    for shuffle in (2, 4):
        config = RRDBConfig(doublings=2, unshuffle=shuffle)
        one = upscaler(rrdb(scale=4 // shuffle, shuffle=shuffle), config)
        side = 4 // shuffle
        assert run(photo(1, 1), (side, side), one).shape == (side, side, 3)


@pytest.mark.parametrize(("shuffle", "size"), [(2, (7, 5)), (4, (9, 6)), (4, (3, 10))])
def test_sizes_that_are_no_multiples_equal_spandrels(shuffle: int, size: tuple[int, int]) -> None:
    network = rrdb(scale=4 // shuffle, shuffle=shuffle)
    pixels = photo(*size)
    one = upscaler(network, RRDBConfig(doublings=2, unshuffle=shuffle))
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    if min(size) >= shuffle:
        with torch.inference_mode():
            expected = network(x)[0].permute(1, 2, 0).clamp(0, 1) * 255
        np.testing.assert_allclose(one.enlarge(pixels), expected.numpy(), atol=1e-2)
    assert one.enlarge(pixels).shape[0] == size[1] * one.config.scale


@pytest.mark.parametrize(
    ("size", "target", "scale", "inputs"),
    [
        ((10, 10), (20, 20), 2, [(10, 10)]),
        ((10, 10), (21, 20), 2, [(10, 10), (20, 20)]),
        ((10, 10), (160, 160), 2, [(10, 10), (20, 20), (40, 40)]),
        ((10, 10), (160, 160), 1, [(10, 10)]),
        ((10, 20), (15, 30), 4, [(10, 20)]),
    ],
)
def test_network_is_repeated_until_the_size_is_reached(
    size: tuple[int, int], target: tuple[int, int], scale: int, inputs: list[tuple[int, int]]
) -> None:
    assert passes(size, target, scale) == inputs
    assert steps_of(size, target, DOUBLE) >= 2


def test_result_of_the_network_is_resized_with_lanczos() -> None:
    pixels = photo(30, 20)
    doubled = Image.fromarray(pixels).resize((60, 40), Image.Resampling.NEAREST)
    expected = np.array(doubled.resize((45, 30), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(run(pixels, (45, 30), DOUBLE), expected)


def test_filters_are_pillows() -> None:
    pixels, image = photo(31, 17), Image.fromarray(photo(31, 17))
    for name, resampling in (
        ("lanczos", Image.Resampling.LANCZOS),
        ("nearest", Image.Resampling.NEAREST),
    ):
        expected = np.array(image.resize((50, 40), resampling))
        np.testing.assert_array_equal(run(pixels, (50, 40), name), expected)


@pytest.mark.parametrize("blend", [0.0, 0.25, 0.5, 1.0])
def test_two_methods_are_mixed(blend: float) -> None:
    pixels = photo(20, 20)
    first, second = (run(pixels, (40, 40), name) for name in ("nearest", "lanczos"))
    expected = (1 - blend) * first + blend * second
    found = run(pixels, (40, 40), "nearest", "lanczos", blend=blend)
    assert np.abs(found - expected).max() <= 1
    if blend in (0, 1):
        np.testing.assert_array_equal(found, second if blend else first)


def test_tile_is_cut_from_its_place() -> None:
    pixels = photo(30, 20)
    np.testing.assert_array_equal(Tile(2, 3, 4, 5).cut(pixels), pixels[2:6, 3:8])
