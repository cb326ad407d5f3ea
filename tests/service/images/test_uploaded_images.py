"""Uploads: whatever the bytes, there comes out a plain picture or a refusal."""

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from protocol.errors import InvalidRequest
from protocol.request.object_keys import input_key
from service.images.image_sanitizer import orientation, strip_metadata
from service.images.uploaded_images import canonical, decode_image, decode_mask
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


# ---- EXIF: how the camera was held -------------------------------------------------------------


def exif_of(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(("number", "corner"), [(1, "tl"), (3, "br"), (6, "tr"), (8, "bl")])
def test_pictures_are_turned_as_the_camera_was_held(kind: str, number: int, corner: str) -> None:
    """A red corner at the top left of the file is, once upright, in `corner`."""
    image = Image.new("RGB", (64, 32), "white")
    image.paste((255, 0, 0), (0, 0, 16, 16))
    options = {"quality": 95, "exif": exif_of(number)}
    upright = decode_image("image", packed(image, kind, **options), MOST_PIXELS)
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
def test_broken_exif_spoils_no_good_picture(exif: bytes) -> None:
    jpeg = with_segments(packed(gradient(), "JPEG", quality=95), b"\xe1" + exif)
    assert decode_image("image", jpeg, MOST_PIXELS).size == (64, 64)
    png = with_chunks(packed(gradient()), png_chunk(b"eXIf", exif))
    assert same(decode_image("image", png, MOST_PIXELS), gradient())


@pytest.mark.parametrize("number", [0, 9, 255, 65535])
def test_an_orientation_that_is_none_turns_nothing(number: int) -> None:
    data = packed(gradient(64, 32), "PNG", exif=exif_of(number))
    assert same(decode_image("image", data, MOST_PIXELS), gradient(64, 32))


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"MM\0*" + rest))
def test_no_exif_block_is_too_strange_to_read(block: bytes) -> None:
    assert 1 <= orientation(block) <= 8


def test_only_the_picture_is_opened() -> None:
    secret = b"canary"
    jpeg = with_segments(packed(gradient(), "JPEG"), b"\xe1" + secret, b"\xfe" + secret)
    assert secret not in strip_metadata("image", jpeg).data
    assert strip_metadata("image", jpeg).data == packed(gradient(), "JPEG")
    png = with_chunks(packed(gradient()), png_chunk(b"tEXt", b"a\0" + secret))
    assert strip_metadata("image", png).data == packed(gradient())


# ---- profiles: what the numbers mean -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_colours_are_brought_to_srgb(kind: str) -> None:
    """A profile by which the red channel means green, and half of it is linear light."""
    image = Image.new("RGB", (8, 8), (128, 0, 0))
    data = packed(image, kind, icc_profile=profile(red="green", green="red"), lossless=True)
    found = decode_image("image", data, MOST_PIXELS).getpixel((4, 4))
    assert found == pytest.approx((0, 188, 0), abs=3)


def test_profiles_leave_transparency_alone() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    data = packed(half, icc_profile=profile(red="green", green="red"))
    found = decode_image("image", data, MOST_PIXELS).getpixel((4, 4))
    assert found == pytest.approx((127, 255, 127), abs=3)


def test_masks_are_numbers_not_colours() -> None:
    data = packed(Image.new("L", (8, 8), 128), icc_profile=profile())
    assert decode_mask("mask", data, MOST_PIXELS).getextrema() == (128, 128)


@pytest.mark.parametrize("broken", [b"junk" * 50, profile()[:100], profile()[:-30], b"\0" * 200])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_broken_profile_spoils_no_good_picture(mode: str, broken: bytes) -> None:
    data = packed(gradient().convert(mode), icc_profile=broken)
    expected = gradient().convert(mode).convert("RGB")
    assert same(decode_image("image", data, MOST_PIXELS), expected)


def test_a_profile_for_other_colours_is_ignored() -> None:
    data = packed(gradient().convert("CMYK"), "JPEG", icc_profile=profile(), quality=100)
    found = decode_image("image", data, MOST_PIXELS).getpixel((10, 20))
    assert found == pytest.approx((20, 40, 30), abs=6)


# ---- odd kinds ---------------------------------------------------------------------------------


def test_sixteen_bits_are_scaled_to_eight() -> None:
    ramp = Image.frombytes("I;16", (256, 1), b"".join(bytes((0, i)) for i in range(256)))
    found = decode_image("image", packed(ramp), MOST_PIXELS)
    assert [found.getpixel((x, 0)) for x in (0, 100, 255)] == [(0,) * 3, (100,) * 3, (255,) * 3]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_picture_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    data = packed(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert decode_image("image", data, MOST_PIXELS).getpixel((8, 8)) == (255, 0, 0)


# ---- bombs -------------------------------------------------------------------------------------


def test_text_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    bomb = b"x\0\0" + zlib.compress(bytes(2**27), 9)
    data = with_chunks(packed(gradient()), *[png_chunk(b"zTXt", bomb)] * 50)
    assert same(decode_image("image", data, MOST_PIXELS), gradient())


def test_a_profile_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    bomb = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**27), 9))
    with pytest.raises(InvalidRequest, match="cannot be decoded"):
        decode_image("image", with_chunks(packed(gradient()), bomb), MOST_PIXELS)


@pytest.mark.parametrize(
    "data",
    [
        with_chunks(packed(gradient()), png_chunk(b"prVt", b"") * 1_000_000),
        with_chunks(packed(gradient()), png_chunk(b"tEXt", b"a\0b") * 100_000),
        with_segments(packed(gradient(), "JPEG"), *[b"\xe5"] * 1_000_000),
        with_segments(packed(gradient(), "JPEG"), *[b"\xfecomment"] * 100_000),
    ],
    ids=["private chunks", "texts", "segments", "comments"],
)
def test_files_of_nothing_but_parts_are_not_opened(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="at most 20000 parts"):
        decode_image("image", data, MOST_PIXELS)


def scan_bomb() -> bytes:
    """A progressive JPEG of 64 x 64 with ten thousand scans that say nothing."""
    jpeg = packed(gradient(), "JPEG", progressive=True)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00"
    return jpeg[:-2] + scan * 10_000 + jpeg[-2:]


def test_a_jpeg_of_endless_scans_is_not_opened() -> None:
    with pytest.raises(InvalidRequest, match="at most 100 scans"):
        decode_image("image", scan_bomb(), MOST_PIXELS)


def test_what_follows_a_picture_does_not_count() -> None:
    """A film behind the picture, as phones leave it there; and one in front of its first scan."""
    film = b"\xff\xda\x00\x02" * 10_000
    jpeg = packed(gradient(), "JPEG", progressive=True)
    decode_image("image", jpeg + film, MOST_PIXELS)
    decode_image("image", with_segments(jpeg, b"\xe1" + film), MOST_PIXELS)


@pytest.mark.parametrize(
    "size", [(30_000, 30_000), (65_000, 1), (1, 65_000), (2**31 - 1, 2**31 - 1)]
)
def test_sizes_are_looked_at_before_pixels(size: tuple[int, int]) -> None:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    rows = png_chunk(b"IDAT", zlib.compress(bytes(10**6), 9))
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + rows + png_chunk(b"IEND", b"")
    with pytest.raises(InvalidRequest) as refusal:
        decode_image("image", data, 1000)
    assert refusal.value.problem == "image-too-large"


POLYGLOTS = {
    "PNG and HTML": packed(gradient()) + b"<script>alert(1)</script>",
    "PNG and ZIP": packed(gradient()) + b"PK\x03\x04" + bytes(100),
    "JPEG and script": with_segments(packed(gradient(), "JPEG"), b"\xfe*/alert(1)/*"),
    "JPEG and pickle": packed(gradient(), "JPEG") + b"cos\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("data", POLYGLOTS.values(), ids=POLYGLOTS)
def test_of_a_file_that_is_two_only_the_picture_goes_on(data: bytes) -> None:
    png = canonical(decode_image("image", data, MOST_PIXELS), (64, 64)).png
    for rest in (b"script", b"alert", b"PK\x03\x04", b"system"):
        assert rest not in png
