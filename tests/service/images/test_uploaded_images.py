"""Uploaded images: any bytes give a plain image or an error."""

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from protocol.errors import InvalidRequest
from protocol.request.object_keys import input_key
from service.images.image_sanitizer import orientation, sanitize_image
from service.images.uploaded_images import canonical
from tests.service.images.decoded import image_of, mask_of
from tests.service.sample_images import (
    gradient,
    left_half_white,
    opened,
    packed,
    png_chunk,
    profile,
    same,
    with_chunks,
    with_segments,
)

MAX_PIXELS = 256 * 256
FILES = [packed(gradient(32, 24), kind) for kind in ("PNG", "JPEG", "WEBP")]


def decoded_or_refused(data: bytes) -> None:
    try:
        image = image_of(data, MAX_PIXELS)
    except InvalidRequest as error:
        assert error.field == "image"  # both outcomes are allowed
    else:
        assert image.mode == "RGB"
        assert image.width * image.height <= MAX_PIXELS


@given(st.binary(max_size=500))
def test_random_bytes_are_decoded_or_rejected(data: bytes) -> None:
    decoded_or_refused(data)


@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_files_are_decoded_or_rejected(data: bytes, damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    decoded_or_refused(bytes(damaged))


@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_decoded_or_rejected(data: bytes, part: float) -> None:
    decoded_or_refused(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "PCX", "TGA"])
def test_other_formats_are_rejected(kind: str) -> None:
    with pytest.raises(InvalidRequest, match="PNG, JPEG, WebP, AVIF or HEIC"):
        image_of(packed(gradient(), kind), MAX_PIXELS)


def test_image_at_the_pixel_limit_is_accepted() -> None:
    image_of(packed(gradient(256, 256)), MAX_PIXELS)
    with pytest.raises(InvalidRequest, match="257x256"):
        image_of(packed(gradient(257, 256)), MAX_PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_is_converted(mode: str) -> None:
    data = packed(gradient().convert(mode))
    assert image_of(data, MAX_PIXELS).mode == "RGB"


def test_canonical_image_is_lossless_and_content_addressed() -> None:
    one, again = (canonical(gradient()) for _ in range(2))
    assert one == again
    assert same(opened(one.png), gradient())
    assert one.record.key == input_key(one.png)
    mask = canonical(left_half_white(32, 16))
    assert opened(mask.png).mode == "L"
    assert (mask.record.width, mask.record.height) == opened(mask.png).size == (32, 16)


def test_only_pixels_of_an_upload_are_stored() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a canary"
    data = packed(gradient(), "PNG", exif=exif)
    assert b"canary" in data
    png = canonical(image_of(data, MAX_PIXELS)).png
    assert b"canary" not in png
    assert not Image.open(io.BytesIO(png)).info


# ---- EXIF orientation --------------------------------------------------------------------------


def exif_of(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(("number", "corner"), [(1, "tl"), (3, "br"), (6, "tr"), (8, "bl")])
def test_exif_orientation_is_applied(kind: str, number: int, corner: str) -> None:
    """A red corner at the top left of the file is in `corner` of the upright image."""
    image = Image.new("RGB", (64, 32), "white")
    image.paste((255, 0, 0), (0, 0, 16, 16))
    options = {"quality": 95, "exif": exif_of(number)}
    upright = image_of(packed(image, kind, **options), MAX_PIXELS)
    assert upright.size == ((64, 32) if number in (1, 3) else (32, 64))
    x = 4 if corner[1] == "l" else upright.width - 5
    y = 4 if corner[0] == "t" else upright.height - 5
    red, green, _ = upright.getpixel((x, y))  # type: ignore[misc]
    assert red > 200 > 80 > green


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0" + b"junk" * 20,
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\xff\xff\0\0\0\x20",
        b"Exif\0\0",
        b"Exif",
        b"",
    ],
)
def test_broken_exif_is_ignored(exif: bytes) -> None:
    jpeg = with_segments(packed(gradient(), "JPEG", quality=95), b"\xe1" + exif)
    assert image_of(jpeg, MAX_PIXELS).size == (64, 64)
    png = with_chunks(packed(gradient()), png_chunk(b"eXIf", exif))
    assert same(image_of(png, MAX_PIXELS), gradient())


@pytest.mark.parametrize("number", [0, 9, 255, 65535])
def test_invalid_orientation_is_ignored(number: int) -> None:
    data = packed(gradient(64, 32), "PNG", exif=exif_of(number))
    assert same(image_of(data, MAX_PIXELS), gradient(64, 32))


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"MM\0*" + rest))
def test_orientation_of_any_bytes_is_valid(block: bytes) -> None:
    assert 1 <= orientation(block) <= 8


def test_sanitizer_removes_metadata() -> None:
    secret = b"canary"
    jpeg = with_segments(packed(gradient(), "JPEG"), b"\xe1" + secret, b"\xfe" + secret)
    assert secret not in sanitize_image("image", jpeg).data
    assert sanitize_image("image", jpeg).data == packed(gradient(), "JPEG")
    png = with_chunks(packed(gradient()), png_chunk(b"tEXt", b"a\0" + secret))
    assert sanitize_image("image", png).data == packed(gradient())


# ---- colour profiles ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_colours_are_converted_to_srgb(kind: str) -> None:
    """The profile maps the red channel to green, and its values are linear light."""
    image = Image.new("RGB", (8, 8), (128, 0, 0))
    data = packed(image, kind, icc_profile=profile(red="green", green="red"), lossless=True)
    found = image_of(data, MAX_PIXELS).getpixel((4, 4))
    assert found == pytest.approx((0, 188, 0), abs=3)


def test_profile_conversion_keeps_transparency() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    data = packed(half, icc_profile=profile(red="green", green="red"))
    found = image_of(data, MAX_PIXELS).getpixel((4, 4))
    assert found == pytest.approx((127, 255, 127), abs=3)


def test_profile_of_a_mask_is_ignored() -> None:
    data = packed(Image.new("L", (8, 8), 128), icc_profile=profile())
    assert mask_of(data, MAX_PIXELS).image.getextrema() == (128, 128)


@pytest.mark.parametrize("broken", [b"junk" * 50, profile()[:100], profile()[:-30], b"\0" * 200])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_broken_profile_is_ignored(mode: str, broken: bytes) -> None:
    data = packed(gradient().convert(mode), icc_profile=broken)
    expected = gradient().convert(mode).convert("RGB")
    assert same(image_of(data, MAX_PIXELS), expected)


def test_profile_of_another_colour_space_is_ignored() -> None:
    data = packed(gradient().convert("CMYK"), "JPEG", icc_profile=profile(), quality=100)
    found = image_of(data, MAX_PIXELS).getpixel((10, 20))
    assert found == pytest.approx((20, 40, 30), abs=6)


# ---- unusual modes -----------------------------------------------------------------------------


def test_sixteen_bits_are_scaled_to_eight() -> None:
    ramp = Image.frombytes("I;16", (256, 1), b"".join(bytes((0, i)) for i in range(256)))
    found = image_of(packed(ramp), MAX_PIXELS)
    assert [found.getpixel((x, 0)) for x in (0, 100, 255)] == [(0,) * 3, (100,) * 3, (255,) * 3]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_first_frame_of_an_animation_is_used(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    data = packed(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert image_of(data, MAX_PIXELS).getpixel((8, 8)) == (255, 0, 0)


# ---- bombs -------------------------------------------------------------------------------------


def test_compressed_text_bomb_is_not_decompressed() -> None:
    bomb = b"x\0\0" + zlib.compress(bytes(2**27), 9)
    data = with_chunks(packed(gradient()), *[png_chunk(b"zTXt", bomb)] * 50)
    assert same(image_of(data, MAX_PIXELS), gradient())


def test_profile_bomb_is_not_decompressed() -> None:
    bomb = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**27), 9))
    with pytest.raises(InvalidRequest, match="cannot be decoded"):
        image_of(with_chunks(packed(gradient()), bomb), MAX_PIXELS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: with_chunks(packed(gradient()), png_chunk(b"prVt", b"") * 1_000_000),
        lambda: with_chunks(packed(gradient()), png_chunk(b"tEXt", b"a\0b") * 100_000),
        lambda: with_segments(packed(gradient(), "JPEG"), *[b"\xe5"] * 1_000_000),
        lambda: with_segments(packed(gradient(), "JPEG"), *[b"\xfecomment"] * 100_000),
    ],
    ids=["private chunks", "texts", "segments", "comments"],
)
def test_file_with_too_many_parts_is_rejected(make: Callable[[], bytes]) -> None:
    data = make()
    with pytest.raises(InvalidRequest, match="at most 20000 parts"):
        image_of(data, MAX_PIXELS)


def scan_bomb() -> bytes:
    """Return a progressive JPEG of 64 x 64 with ten thousand empty scans."""
    jpeg = packed(gradient(), "JPEG", progressive=True)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00"
    return jpeg[:-2] + scan * 10_000 + jpeg[-2:]


def test_jpeg_with_too_many_scans_is_rejected() -> None:
    with pytest.raises(InvalidRequest, match="at most 100 scans"):
        image_of(scan_bomb(), MAX_PIXELS)


def test_data_after_the_image_is_not_counted() -> None:
    """A video after the image, as phones append it, and one before its first scan."""
    video = b"\xff\xda\x00\x02" * 10_000
    jpeg = packed(gradient(), "JPEG", progressive=True)
    image_of(jpeg + video, MAX_PIXELS)
    image_of(with_segments(jpeg, b"\xe1" + video), MAX_PIXELS)


@pytest.mark.parametrize(
    "size", [(30_000, 30_000), (65_000, 1), (1, 65_000), (2**31 - 1, 2**31 - 1)]
)
def test_size_is_checked_before_pixels(size: tuple[int, int]) -> None:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    rows = png_chunk(b"IDAT", zlib.compress(bytes(10**6), 9))
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + rows + png_chunk(b"IEND", b"")
    with pytest.raises(InvalidRequest) as raised:
        image_of(data, 1000)
    assert raised.value.problem == "image-too-large"


POLYGLOTS = {
    "PNG and HTML": packed(gradient()) + b"<script>alert(1)</script>",
    "PNG and ZIP": packed(gradient()) + b"PK\x03\x04" + bytes(100),
    "JPEG and script": with_segments(packed(gradient(), "JPEG"), b"\xfe*/alert(1)/*"),
    "JPEG and pickle": packed(gradient(), "JPEG") + b"cos\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("data", POLYGLOTS.values(), ids=POLYGLOTS)
def test_only_the_image_of_a_polyglot_is_stored(data: bytes) -> None:
    png = canonical(image_of(data, MAX_PIXELS)).png
    for other in (b"script", b"alert", b"PK\x03\x04", b"system"):
        assert other not in png
