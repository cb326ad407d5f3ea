"""Requests for tiles: sizes, defaults, bounds and errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.denoising.tiles import TileGrid
from protocol.errors import InvalidRequest
from protocol.request.generation_params import GenerationParams, InputImage, parse_params
from protocol.request.model_card import UpscalerInfo
from protocol.request.object_keys import input_key
from protocol.request.request import GenerationRequest, Task, Tiles
from protocol.request.resolve import resolve
from protocol.request.tiles import MAX_TILED_SIDE, MAX_TILES
from tests.protocol.records import CARD

UPSCALERS = (UpscalerInfo(name="4x-UltraSharp", scale=4),)
LARGE = {"max_side": 512, "max_pixels": 512 * 512}
WITH = CARD.model_copy(update={"upscalers": UPSCALERS, **LARGE})


def resolved(
    size: tuple[int, int] = (100, 50), task: Task = Task.IMG2IMG, **fields: Any
) -> GenerationRequest:
    image = InputImage(key=input_key(b"x"), width=size[0], height=size[1])
    params = parse_params(GenerationParams, {"prompt": "a cat", **fields})
    return resolve(task, params, WITH, lambda text: 1, image if task.takes("image") else None)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, (96, 48)),  # multiples of 8
        ({"scale": 4}, (400, 200)),
        ({"upscaler": "4x-UltraSharp"}, (400, 200)),
        ({"upscaler": "nearest"}, (96, 48)),
        ({"scale": 40.96 / 8, "upscaler": "4x-UltraSharp"}, (512, 256)),
        ({"width": 1024, "height": 768}, (1024, 768)),
        ({"width": 1024}, (1024, 512)),
        ({"height": 1024}, (2048, 1024)),
        ({"width": 8192, "tile_size": 512}, (8192, 4096)),
    ],
)
def test_size_of_the_result(fields: dict[str, Any], size: tuple[int, int]) -> None:
    request = resolved(**{"tile_size": 64, **fields})
    assert (request.width, request.height) == size
    assert request.tiles is not None
    assert request.upscalers == (request.tiles.upscaler,)
    assert request.work > 0


@pytest.mark.parametrize(
    ("fields", "tiles"),
    [
        ({"tile_size": 64}, Tiles(size=64, overlap=16, upscaler="lanczos")),
        ({"tile_size": 72}, Tiles(size=72, overlap=16, upscaler="lanczos")),
        ({"tile_size": 64, "tile_overlap": 0}, Tiles(size=64, overlap=0, upscaler="lanczos")),
        ({"tile_size": 64, "tile_overlap": 32}, Tiles(size=64, overlap=32, upscaler="lanczos")),
        (
            {"tile_size": 64, "upscaler": "4x-UltraSharp"},
            Tiles(size=64, overlap=16, upscaler="4x-UltraSharp"),
        ),
    ],
)
def test_tiles(fields: dict[str, Any], tiles: Tiles) -> None:
    assert resolved(**fields).tiles == tiles


def test_no_tiles_by_default() -> None:
    request = resolved((64, 64))
    assert request.tiles is None
    assert "tiles" not in request.model_dump(mode="json")


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("width", {"width": 20_000}),
        ("width", {"width": 8200}),
        ("height", {"width": 8192, "height": 8200}),
        ("width", {"width": 1001}),
        ("scale", {"scale": 0.5}),
        ("scale", {"scale": 17}),
        ("scale", {"scale": 16, "size": (1000, 1000)}),
        ("scale", {"scale": 2, "width": 128}),
        ("image", {"size": (100, 4)}),
        ("image", {"size": (9000, 100)}),
        ("image", {"size": (2100, 100), "upscaler": "4x-UltraSharp"}),
        ("tile_size", {"tile_size": 0}),
        ("tile_size", {"tile_size": 8}),
        ("tile_size", {"tile_size": 65}),
        ("tile_size", {"tile_size": 520}),
        ("tile_size", {"tile_size": 20_000}),
        ("tile_size", {"tile_size": 64, "width": 8192}),
        ("tile_overlap", {"tile_overlap": -8}),
        ("tile_overlap", {"tile_overlap": 12}),
        ("tile_overlap", {"tile_overlap": 40}),
        ("upscaler", {"upscaler": "other"}),
        ("n", {"n": 2}),
        ("tile_overlap", {"tile_size": None, "tile_overlap": 8}),
        ("upscaler", {"tile_size": None, "upscaler": "lanczos"}),
        ("scale", {"tile_size": None, "scale": 2}),
    ],
)
def test_error_names_field_value_and_bound(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolved(**{"size": (64, 64), "tile_size": 64, **fields})
    assert caught.value.field == field
    assert caught.value.bound
    if field in fields:
        assert caught.value.value == fields[field]


@pytest.mark.parametrize("task", [Task.TXT2IMG, Task.UPSCALE])
def test_other_tasks_take_no_tiles(task: Task) -> None:
    prompt = "" if task is Task.UPSCALE else "a cat"
    with pytest.raises(InvalidRequest, match="tile_size is 64, but must be absent"):
        resolved(task=task, prompt=prompt, tile_size=64)


def test_scale_is_accepted_up_to_the_bound_that_the_error_tells() -> None:
    with pytest.raises(InvalidRequest, match="scale") as caught:
        resolved((1000, 600), tile_size=512, scale=9)
    bound = float(str(caught.value.bound).split()[2].rstrip(","))
    assert resolved((1000, 600), tile_size=512, scale=bound).width == MAX_TILED_SIDE


@given(st.data())
def test_count_is_that_of_the_tiles(data: st.DataObject) -> None:
    unit = 8
    side = data.draw(st.integers(1, 40))
    tiles = Tiles(
        size=unit * side, overlap=unit * data.draw(st.integers(0, side // 2)), upscaler="lanczos"
    )
    width, height = (unit * data.draw(st.integers(1, 300)) for _ in range(2))
    grid = TileGrid(height // unit, width // unit, side, tiles.overlap // unit)
    if tiles.count(width, height) <= MAX_TILES:
        assert tiles.count(width, height) == len(grid.windows)
    assert tiles.pixels(width, height) >= width * height
