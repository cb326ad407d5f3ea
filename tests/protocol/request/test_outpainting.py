"""Outpainting: the plan of its rounds, the size of the result, and wrong borders."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import InvalidRequest
from protocol.recipes.client_fields import client_fields
from protocol.request.borders import MAX_ROUNDS, resolve_outpainting
from protocol.request.fields import MAX_SIDE, MAX_UPSCALED_PIXELS
from protocol.request.generation_params import GenerationParams, InputImage, parse_params
from protocol.request.inpainting import MaskedContent, PixelBox
from protocol.request.outpainting import OVERLAP, Anchor, Outpainting, outpainting
from protocol.request.request import GenerationRequest
from protocol.request.resolve import resolve
from protocol.request.tasks import Task
from tests.protocol.records import CARD, outpaintings

SIZE = (60, 40)
IMAGE = InputImage(key="inputs/" + 64 * "1", width=60, height=40)


def part(box: PixelBox) -> tuple[slice, slice]:
    left, top, right, bottom = box.corners
    return slice(top, bottom), slice(left, right)


def sides(box: PixelBox) -> tuple[int, int]:
    return box.width, box.height


@settings(max_examples=50)
@given(outpaintings())
def test_rounds_cover_the_border_and_each_sees_what_is_known(asked: Outpainting) -> None:
    known = np.zeros((asked.height, asked.width), bool)
    needed = known.copy()
    known[part(asked.image)] = needed[part(asked.result)] = True
    window = (asked.window_width, asked.window_height)
    for box in asked.rounds:
        assert sides(box) == window
        seen, wanted = known[part(box)], needed[part(box)]
        assert seen.shape == (box.height, box.width)  # it is inside the canvas
        assert (wanted & ~seen).any()  # it generates a part of the result
        assert has_context(seen | ~wanted, asked) or has_the_centre(box, asked.image)
        known[part(box)] = True
    assert (known | ~needed).all()
    assert asked.round_count == len(asked.rounds)


def has_context(known: Any, asked: Outpainting) -> bool:
    """Return True if a strip at one edge of a window is known, as wide as two windows share."""
    across, down = asked.window_width // OVERLAP, asked.window_height // OVERLAP
    strips = known[:, :across], known[:, -across:], known[:down], known[-down:]
    return any(strip.all() for strip in strips)


def has_the_centre(box: PixelBox, image: PixelBox) -> bool:
    x, y = image.left + image.width // 2, image.top + image.height // 2
    left, top, right, bottom = box.corners
    return left <= x <= right and top <= y <= bottom


@settings(max_examples=50)
@given(outpaintings())
def test_no_window_ends_between_new_and_known_pixels(asked: Outpainting) -> None:
    """There they could not be blended."""
    known = np.zeros((asked.height, asked.width), bool)
    known[part(asked.image)] = True
    for box in asked.rounds:
        (rows, columns), (left, top, right, bottom) = part(box), box.corners
        if left > asked.result.left:
            assert not (known[rows, left - 1] & ~known[rows, left]).any()
        if right < asked.width:
            assert not (known[rows, right] & ~known[rows, right - 1]).any()
        if top > asked.result.top:
            assert not (known[top - 1, columns] & ~known[top, columns]).any()
        if bottom < asked.height:
            assert not (known[bottom, columns] & ~known[bottom - 1, columns]).any()
        known[rows, columns] = True


def test_image_of_the_windows_size_takes_a_round_for_each_border() -> None:
    assert len(outpainting((64, 64), (0, 0, 48, 0), (64, 64), 4).rounds) == 1
    assert len(outpainting((64, 64), (0, 0, 49, 0), (64, 64), 4).rounds) == 2
    assert len(outpainting((64, 64), (48, 0, 48, 0), (64, 64), 4).rounds) == 2


def test_result_smaller_than_a_window_is_generated_at_once_where_the_border_is() -> None:
    asked = outpainting((20, 20), (0, 5, 10, 0), (64, 64), 2)
    assert asked.rounds == [PixelBox(left=0, top=0, width=64, height=64)]
    assert asked.image.corners == (0, 44, 20, 64)
    assert asked.result.corners == (0, 39, 30, 64)
    assert asked.kept.corners == (0, 46, 18, 64)


# ---- requests -----------------------------------------------------------------------------------


def resolved(size: tuple[int, int] = SIZE, **fields: Any) -> GenerationRequest:
    card = CARD.model_copy(update={"tasks": tuple(Task)})
    image = IMAGE.model_copy(update={"width": size[0], "height": size[1]})
    params = parse_params(GenerationParams, {"prompt": "x", **fields})
    return resolve(Task.OUTPAINT, params, card, len, image)


@settings(max_examples=30)
@given(*[st.integers(0, 200)] * 4, st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_result_has_the_image_and_its_borders(
    left: int, right: int, top: int, bottom: int, size: tuple[int, int]
) -> None:
    borders = {"left": left, "right": right, "top": top, "bottom": bottom}
    if not any(borders.values()):
        return
    request = resolved(size, **borders)
    assert (request.width, request.height) == (size[0] + left + right, size[1] + top + bottom)
    asked = request.outpainting
    assert asked is not None
    assert sides(asked.image) == size
    place = asked.image.left - asked.result.left, asked.image.top - asked.result.top
    assert place == (left, top)
    assert GenerationRequest.model_validate_json(request.model_dump_json()) == request


PLACES = {
    Anchor.CENTER: (20, 10), Anchor.TOP: (20, 0), Anchor.BOTTOM: (20, 21), Anchor.LEFT: (0, 10),
    Anchor.RIGHT: (40, 10), Anchor.TOP_LEFT: (0, 0), Anchor.TOP_RIGHT: (40, 0),
    Anchor.BOTTOM_LEFT: (0, 21), Anchor.BOTTOM_RIGHT: (40, 21),
}  # fmt: skip


@pytest.mark.parametrize("anchor", [None, *Anchor])
def test_anchor_is_the_place_of_the_image(anchor: Anchor | None) -> None:
    sent: dict[str, Any] = {} if anchor is None else {"anchor": anchor.value}
    request = resolved(width=100, height=61, **sent)
    asked = request.outpainting
    assert asked is not None
    place = asked.image.left - asked.result.left, asked.image.top - asked.result.top
    assert place == PLACES[anchor or Anchor.CENTER]
    assert (request.width, request.height) == (100, 61)


def test_side_that_is_not_requested_stays() -> None:
    request = resolved(height=90)
    assert (request.width, request.height) == (60, 90)


def test_defaults_are_filled_in() -> None:
    request = resolved(left=10)
    assert request.masked_content is MaskedContent.FILL
    assert request.outpainting is not None
    assert request.outpainting.blend == 4
    assert resolved(size=(8, 8), left=10).outpainting.blend == 2  # type: ignore[union-attr]


def test_work_grows_with_the_rounds() -> None:
    one, two = resolved((64, 64), left=48), resolved((64, 64), left=96)
    assert two.work == pytest.approx(2 * one.work)


LARGEST = MAX_SIDE
WRONG: list[tuple[dict[str, Any], str, object, str]] = [
    ({}, "left", None, "above 0"),
    ({"left": 0, "right": 0, "top": 0, "bottom": 0}, "left", 0, "above 0"),
    ({"top": 0}, "top", 0, "above 0"),
    ({"left": -1}, "left", -1, "at least 0"),
    ({"right": 20_000}, "right", 20_000, f"at most {LARGEST}"),
    ({"right": 1.5}, "right", 1.5, "an integer"),
    ({"right": LARGEST}, "right", LARGEST, f"so that the result has sides up to {LARGEST}"),
    ({"left": 9000, "right": 9000}, "left", 18000, f"so that the result has sides up to {LARGEST}"),
    ({"width": 20_000}, "width", 20_000, f"at most {LARGEST}"),
    ({"width": 59, "height": 80}, "width", 59, "at least 60, as the image is 60x40"),
    ({"width": 80, "height": 39}, "height", 39, "at least 40, as the image is 60x40"),
    ({"width": 60, "height": 40}, "width", 60, "above the image's"),
    ({"height": 40}, "height", 40, "above the image's"),
    ({"width": 100, "left": 10}, "left", 10, "absent, for width or height is given"),
    ({"height": 100, "bottom": 0}, "bottom", 0, "absent, for width or height is given"),
    ({"left": 10, "anchor": "left"}, "anchor", "left", "absent, as neither width nor height"),
    ({"width": 90, "anchor": "middle"}, "anchor", "middle", "one of center, top, bottom"),
    ({"width": LARGEST, "height": LARGEST}, "width", LARGEST, "so that the result has at most"),
    ({"width": 7000, "height": 7001}, "height", 7001, f"so small that at most {MAX_ROUNDS} rounds"),
    ({"bottom": 3000, "width": None, "right": 3000}, "right", 3000, "so small that at most"),
    ({"top": 10, "edge_blend": 11}, "edge_blend", 11, "at most 10"),
    ({"width": 90, "edge_blend": 16}, "edge_blend", 16, "at most 15"),
    ({"left": 10, "edge_blend": 257}, "edge_blend", 257, "at most 256"),
    ({"left": 10, "edge_blend": -1}, "edge_blend", -1, "at least 0"),
    ({"left": 10, "masked_content": "original"}, "masked_content", "original", "fill, noise"),
    ({"left": 10, "resize_mode": "crop"}, "resize_mode", "given", "absent for outpaint"),
    ({"left": 10, "mask_blur": 4}, "mask_blur", 4, "absent for outpaint"),
    ({"left": 10, "tile_size": 64}, "tile_size", 64, "absent for outpaint"),
]


@pytest.mark.parametrize(("fields", "field", "value", "bound"), WRONG)
def test_wrong_borders_are_refused(
    fields: dict[str, Any], field: str, value: object, bound: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolved(**fields)
    assert (caught.value.field, caught.value.value) == (field, value)
    assert caught.value.bound.startswith(bound), caught.value.bound


def test_images_of_a_request_share_the_bound_of_pixels() -> None:
    params = GenerationParams(left=10, n=2)
    size = (8192, MAX_UPSCALED_PIXELS // 8192 - 1)
    with pytest.raises(InvalidRequest) as caught:
        resolve_outpainting(params.model_copy(update={"left": 0, "top": 1}), CARD, size)
    assert (caught.value.field, caught.value.bound) == ("n", "at most 1, for images of 8192x8192")


@pytest.mark.parametrize("task", [Task.TXT2IMG, Task.INPAINT])
def test_borders_of_other_tasks_are_refused(task: Task) -> None:
    params = GenerationParams(prompt="x", left=8)
    with pytest.raises(InvalidRequest) as caught:
        resolve(task, params, CARD, len, IMAGE, IMAGE)
    assert caught.value.field in ("left", "image")


def test_recipe_of_a_request_gives_the_same_request() -> None:
    request = resolved(left=10, bottom=3, edge_blend=1, seed=5)
    fields = client_fields(request)
    assert "width" not in fields
    assert resolved(**fields) == request
