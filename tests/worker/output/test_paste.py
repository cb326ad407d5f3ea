"""The paste: the client's pixels outside the mask, blended inside, alpha and depth kept."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from protocol.request.inpainting import Paste, PixelBox
from worker.output.paste import paste

IMAGE_KEY, MASK_KEY = (f"inputs/{digit * 64}" for digit in "ab")


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def box(left: int, top: int, width: int, height: int) -> PixelBox:
    return PixelBox(left=left, top=top, width=width, height=height)


@given(st.data(), st.sampled_from((3, 4)), st.sampled_from((3, 5)))
def test_result_is_blended_by_the_mask(data: st.DataObject, bands: int, channels: int) -> None:
    width, height = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box_width = data.draw(st.integers(1, width - left))
    box_height = data.draw(st.integers(1, height - top))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    image = random.integers(0, 256, (height, width, bands), np.uint8)
    mask = random.choice(np.array([0, 0, 1, 128, 255], np.uint8), (height, width))
    generated = random.integers(0, 256, (40, 48, channels), np.uint8)
    used = box(3, 2, *((20, 16) if data.draw(st.booleans()) else (box_width, box_height)))
    place = Paste(
        width=width,
        height=height,
        used=used,
        box=box(left, top, box_width, box_height),
        image_key=IMAGE_KEY,
        mask_key=MASK_KEY,
    )
    result = paste(generated, place, {IMAGE_KEY: png(image), MASK_KEY: png(mask)})

    inside = np.zeros((height, width), bool)
    inside[top : top + box_height, left : left + box_width] = True
    scaled = Image.fromarray(generated[2 : 2 + used.height, 3 : 3 + used.width, :3])
    scaled = scaled.resize((box_width, box_height), Image.Resampling.LANCZOS)
    other = image[..., :3].astype(float)
    other[inside] = np.asarray(scaled).reshape(-1, 3)
    share = mask[..., None] / 255
    blended = image[..., :3] * (1 - share) + other * share
    kept = ~inside | (mask == 0)
    assert result.pixels.shape == (height, width, channels)
    assert np.array_equal(result.pixels[kept][:, :3], image[kept][:, :3])
    assert np.abs(result.pixels[..., :3] - blended).max() <= 1
    assert (result.alpha is None) == (bands == 3)
    assert result.alpha is None or np.array_equal(result.alpha, image[..., 3])
    assert not result.pixels[~inside][:, 3:].any()
    if (used.width, used.height) == (box_width, box_height):
        depth = generated[2 : 2 + box_height, 3 : 3 + box_width, 3:]
        assert np.array_equal(result.pixels[inside][:, 3:].ravel(), depth.ravel())


def test_a_part_alone_is_cut_out() -> None:
    generated = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    part = box(0, 0, 29, 21)
    result = paste(generated, Paste(width=29, height=21, used=part, box=part), {})
    assert np.array_equal(result.pixels, generated[:21, :29])
    assert result.alpha is None


def test_without_a_paste_nothing_changes() -> None:
    generated = np.zeros((4, 4, 5), np.uint8)
    assert paste(generated, None, {}).pixels is generated
