"""Every pixel of inpainting results over HTTP, for random images, masks, options and files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tests.service.conftest import ABLE, Running, running
from tests.service.inpainting import Pixels, post, red, result_of, sent, square
from tests.service.sample_images import in_base64, opened, packed
from tests.support.redis_server import RedisServer

LOSSLESS = {"lossless": True, "exact": True}
FILES: dict[str, dict[str, Any]] = {"PNG": {}, "WEBP": LOSSLESS, "JPEG": {"quality": 90}}
MODES = {"PNG": ("RGB", "RGBA", "L", "LA", "P"), "WEBP": ("RGB", "RGBA"), "JPEG": ("RGB", "L")}


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Running]:
    bounds = {"max_queue_length": 1000, "max_queue_per_client": 1000}
    with running(redis_server.url, ABLE, **bounds) as service:
        yield service


@dataclass(frozen=True)
class Sent:
    """An uploaded image, its pixels (H, W, 3 or 4), a mask in any grey, and options."""

    file: bytes
    pixels: Pixels
    mask: Pixels
    options: dict[str, Any]

    def fields(self) -> dict[str, Any]:
        mask = {} if "mask_source" in self.options else {"mask": sent(self.mask)}
        return {"image": in_base64(self.file), **mask, **self.options}


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    width, height = draw(st.integers(16, 120)), draw(st.integers(16, 120))
    kind = draw(st.sampled_from(sorted(FILES)))
    # Not red, in which the fake worker inpaints.
    noise = np.random.default_rng(draw(st.integers(0, 999))).integers(0, 200, (height, width, 4))
    image = Image.fromarray(noise.astype(np.uint8)).convert(draw(st.sampled_from(MODES[kind])))
    file = packed(image, kind, **FILES[kind])
    decoded = opened(file)
    transparent = decoded.has_transparency_data
    pixels = np.asarray(decoded.convert("RGBA" if transparent else "RGB"))
    mask = draw(masks(width, height))
    options: dict[str, Any] = {
        "mask_blur": draw(st.sampled_from((0, 0, 1, 4))),
        "mask_grow": draw(st.sampled_from((0, 0, -2, 3))),
        "mask_invert": draw(st.booleans()),
        "mask_mode": draw(st.sampled_from(("hard", "soft"))),
        "inpaint_area": draw(st.sampled_from(("whole", "masked"))),
        "masked_content": draw(st.sampled_from(("original", "fill", "noise", "nothing"))),
    }
    if options["inpaint_area"] == "masked":
        options["mask_padding"] = draw(st.integers(0, 40))
        if draw(st.booleans()):
            options |= {"width": 64, "height": draw(st.sampled_from((32, 128)))}
    if transparent and draw(st.booleans()):
        options["mask_source"], mask = "alpha", 255 - pixels[..., 3]
    return Sent(file, pixels, mask, options)


@st.composite
def masks(draw: st.DrawFn, width: int, height: int) -> Pixels:
    mask = np.full((height, width), draw(st.sampled_from((0, 0, 100))), np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        right, bottom = left + draw(st.integers(1, 40)), top + draw(st.integers(1, 40))
        mask[top:bottom, left:right] = draw(st.sampled_from((100, 128, 255)))
    return mask


def may_change(request: Sent) -> NDArray[np.bool_]:
    """Return the pixels that may differ, with a square for the blur, which is the largest."""
    options = request.options
    level = request.mask if options["mask_mode"] == "soft" else _hard(request.mask)
    marked = 255 - level if options["mask_invert"] else level
    grow, reach = options["mask_grow"], int(2.5 * options["mask_blur"] + 0.5)
    if grow < 0:
        marked = ndimage.minimum_filter(marked, 1 - 2 * grow, mode="constant", cval=255)
    reach += max(grow, 0)
    changes: NDArray[np.bool_] = ndimage.maximum_filter(marked, 2 * reach + 1) > 0
    return changes


def _hard(mask: Pixels) -> Pixels:
    return np.where(mask >= 128, 255, 0).astype(np.uint8)


def check_outside_is_kept(service: Running, request: Sent) -> None:
    result = result_of(post(service, "inpaint", **request.fields()))
    image, changes, options = request.pixels, may_change(request), request.options
    found = np.asarray(result)
    assert found.shape[:2] == image.shape[:2]
    colours = found[..., :3]
    assert np.array_equal(colours[~changes], image[~changes][:, :3])
    if "mask_source" in options:
        alpha = np.asarray(result.convert("RGBA"))[..., 3]
        assert np.array_equal(alpha[~changes], image[~changes][:, 3])
        assert (alpha >= image[..., 3]).all()
    else:
        assert np.array_equal(found[..., 3:], image[..., 3:])
    if options["mask_mode"] == "hard" and not options["mask_blur"]:
        assert (colours[changes] != image[changes][:, :3]).any() or not changes.any()
        if options["inpaint_area"] == "whole":
            assert np.array_equal(colours[changes], red(changes.sum()))


FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(requests())
def test_pixels_outside_the_mask_are_kept(service: Running, request_: Sent) -> None:
    check_outside_is_kept(service, request_)


@pytest.mark.long
@MANY
@given(requests())
def test_pixels_outside_the_mask_are_kept_in_many(service: Running, request_: Sent) -> None:
    check_outside_is_kept(service, request_)


@pytest.mark.parametrize("blur", [1, 4, 9])
@pytest.mark.parametrize("area", ["whole", "masked"])
def test_seam_is_blended_as_in_automatic1111(service: Running, area: str, blur: int) -> None:
    """The whole image by the doubled mask, an area by the mask, which it blurs on each axis."""
    image = np.random.default_rng(blur).integers(0, 200, (64, 64, 3), np.uint8)
    mask = square(64, 64, 20, 24, 18)
    padding = {"mask_padding": 64} if area == "masked" else {}  # the whole image in its own size
    fields = {"image": sent(image), "mask": sent(mask), "mask_blur": blur, "inpaint_area": area}
    found = np.asarray(result_of(post(service, "inpaint", **fields, **padding)))

    reach = int(2.5 * blur + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / blur) ** 2)
    level = mask.astype(float)
    for axis in (1, 0):
        level = np.rint(ndimage.convolve1d(level, weights / weights.sum(), axis, mode="mirror"))
    share = np.clip(2 * level, 0, 255) if area == "whole" else level
    generated = np.where(mask[..., None] > 0, (255, 0, 0), image)
    expected = np.rint(image + (generated - image.astype(float)) * share[..., None] / 255)
    assert np.abs(found - expected).max() <= 1
