"""Uploads: whatever the bytes, there comes out a plain picture or a refusal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from protocol.errors import InvalidRequest
from protocol.keys import input_key
from service.images import canonical, decode_image, decode_mask
from tests.service.pictures import gradient, left_half_white, opened, packed, same

MOST_PIXELS = 256 * 256
FILES = [packed(gradient(32, 24), kind) for kind in ("PNG", "JPEG", "WEBP")]


def decoded_or_refused(data: bytes) -> None:
    try:
        image = decode_image("image", data, MOST_PIXELS)
    except InvalidRequest as refusal:
        assert refusal.field == "image"  # either outcome is right
    else:
        assert image.mode == "RGB"
        assert image.width * image.height <= MOST_PIXELS


@given(st.binary(max_size=500))
def test_random_bytes_do_no_harm(data: bytes) -> None:
    decoded_or_refused(data)


@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_files_do_no_harm(data: bytes, damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    decoded_or_refused(bytes(damaged))


@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True))
def test_files_cut_short_do_no_harm(data: bytes, part: float) -> None:
    decoded_or_refused(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "PCX", "TGA"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(InvalidRequest, match="PNG, JPEG or WebP"):
        decode_image("image", packed(gradient(), kind), MOST_PIXELS)


def test_an_image_of_just_the_bound_is_taken() -> None:
    decode_image("image", packed(gradient(256, 256)), MOST_PIXELS)
    with pytest.raises(InvalidRequest, match="257x256"):
        decode_image("image", packed(gradient(257, 256)), MOST_PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_becomes_plain(mode: str) -> None:
    data = packed(gradient().convert(mode))
    assert decode_image("image", data, MOST_PIXELS).mode == "RGB"
    assert decode_mask("mask", data, MOST_PIXELS).mode == "L"


def test_what_is_clear_in_a_mask_is_kept() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    assert decode_mask("mask", packed(clear), MOST_PIXELS).getextrema() == (0, 0)


def test_canonical_files_are_lossless_and_named_by_their_content() -> None:
    one, again = (canonical(gradient(), (64, 64)) for _ in range(2))
    assert one == again
    assert same(opened(one.png), gradient())
    assert one.record.key == input_key(one.png)
    mask = canonical(left_half_white(), (32, 16))
    assert opened(mask.png).mode == "L"
    assert (mask.record.width, mask.record.height) == opened(mask.png).size == (32, 16)


def test_nothing_of_the_upload_but_its_pixels_is_kept() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a canary"
    data = packed(gradient(), "PNG", exif=exif)
    assert b"canary" in data
    png = canonical(decode_image("image", data, MOST_PIXELS), (64, 64)).png
    assert b"canary" not in png
    assert not Image.open(io.BytesIO(png)).info
