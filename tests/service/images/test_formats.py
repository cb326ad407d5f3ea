"""AVIF and HEIC files, animations, and every kind of pixel that cameras and editors write."""

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from protocol.errors import InvalidRequest
from service.images.image_file import open_image
from tests.service.images.decoded import image_of, mask_of
from tests.service.sample_images import gradient, packed, png_chunk, profile

DATA = Path(__file__).parent / "data"
MAX_PIXELS = 512 * 512
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Return the colours at the corners: left upper, right upper, left lower, right lower."""
    right, lower = image.width - 5, image.height - 5
    places = ((4, 4), (right, 4), (4, lower), (right, lower))
    return [image.getpixel(place) for place in places]  # type: ignore[misc]


def close(found: list[tuple[int, ...]], expected: list[tuple[int, int, int]]) -> bool:
    return all(
        abs(a - b) <= 6
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def quartered() -> Image.Image:
    """Return a white image, 64 x 32, with a red left upper quarter."""
    image = Image.new("RGB", (64, 32), WHITE)
    image.paste(RED, (0, 0, 32, 16))
    return image


# ---- AVIF and HEIC -----------------------------------------------------------------------------


def test_avif_is_decoded() -> None:
    found = image_of(packed(quartered(), "AVIF", quality=90), MAX_PIXELS)
    assert found.size == (64, 32)
    assert close(corners(found), [RED, WHITE, WHITE, WHITE])


def test_orientation_of_an_avif_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = image_of(packed(quartered(), "AVIF", quality=90, exif=exif), MAX_PIXELS)
    assert found.size == (32, 64)
    assert close(corners(found), [WHITE, RED, WHITE, WHITE])


def test_transparent_avif_is_put_on_white_and_its_mask_on_black() -> None:
    image = Image.new("RGBA", (64, 32), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (0, 0, 32, 32))
    data = packed(image, "AVIF", quality=90)
    assert close(corners(image_of(data, MAX_PIXELS)), [WHITE] * 4)
    mask = mask_of(data, MAX_PIXELS)
    assert mask.image.crop((0, 0, 28, 32)).getextrema()[0] > 250  # type: ignore[operator]
    assert mask.image.crop((36, 0, 64, 32)).getextrema()[1] < 5  # type: ignore[operator]
    assert mask.warnings == ()


def test_heic_is_decoded_upright() -> None:
    pytest.importorskip("pi_heif", reason="needs the extra heic")
    found = image_of((DATA / "turned.heic").read_bytes(), MAX_PIXELS)
    assert found.size == (32, 64)
    assert close(corners(found), [WHITE, RED, WHITE, WHITE])


def test_transparent_heic_is_put_on_white() -> None:
    pytest.importorskip("pi_heif", reason="needs the extra heic")
    found = image_of((DATA / "alpha.heic").read_bytes(), MAX_PIXELS)
    assert close(corners(found), [BLUE, WHITE, BLUE, WHITE])


def claiming(data: bytes, size: tuple[int, int]) -> bytes:
    """Return an AVIF or HEIC file that claims another size in its header."""
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", *size) + data[place + 8 :]


def test_avif_may_take_no_more_memory_than_its_header_says() -> None:
    """The video in it is 4096 x 4096, and its decoder would allocate all that."""
    data = (DATA / "large.avif").read_bytes()
    assert image_of(data, 4096 * 4096, (8, 8)).getpixel((4, 4)) == pytest.approx(RED, abs=2)
    data = claiming(data, (64, 64))
    with pytest.raises(InvalidRequest) as raised:
        image_of(data, MAX_PIXELS)
    assert raised.value.problem == "broken-image"


def test_heic_may_not_be_larger_than_its_header_says() -> None:
    pytest.importorskip("pi_heif", reason="needs the extra heic")
    data = claiming((DATA / "turned.heic").read_bytes(), (16, 16))
    with pytest.raises(InvalidRequest) as raised:
        image_of(data, MAX_PIXELS)
    assert raised.value.problem == "broken-image"


MODERN = [packed(quartered(), "AVIF"), (DATA / "alpha.heic").read_bytes()]


@settings(max_examples=15)
@given(
    st.sampled_from(MODERN),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    st.floats(0.5, 1),
)
def test_damaged_avif_and_heic_are_decoded_or_rejected(
    data: bytes, damage: list[tuple[int, int]], part: float
) -> None:
    damaged = bytearray(data[: int(len(data) * part)])
    for place, value in damage:
        damaged[place % len(damaged)] = value
    try:
        image = image_of(bytes(damaged), MAX_PIXELS)
    except InvalidRequest as error:
        assert error.field == "image"
    else:
        assert image.width * image.height <= MAX_PIXELS


def without_height(kind: str) -> bytes:
    """Return a file whose header states a height of 0."""
    if kind == "HEIC":
        data, place, length = (DATA / "alpha.heic").read_bytes(), 387, 1  # of its cropped area
    else:
        data = packed(quartered(), kind)
        marker, behind, length = {
            "PNG": (b"IHDR", 8, 4),
            "JPEG": (b"\xff\xc0", 5, 2),
            "WEBP": (b"\x9d\x01\x2a", 5, 2),
        }[kind]
        place = data.index(marker) + behind
    return data[:place] + bytes(length) + data[place + length :]


@pytest.mark.parametrize("kind", ["HEIC", "PNG", "JPEG", "WEBP"])
def test_image_without_height_is_rejected(kind: str) -> None:
    if kind == "HEIC":
        pytest.importorskip("pi_heif", reason="needs the extra heic")
    with pytest.raises(InvalidRequest, match="image") as raised:
        image_of(without_height(kind), MAX_PIXELS)
    assert (raised.value.field, raised.value.problem) == ("image", "broken-image")


# ---- animations --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_animation_gets_a_warning(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    data = packed(frames[0], kind, save_all=True, append_images=frames[1:])
    file = open_image("image", data, MAX_PIXELS)
    assert [(warning.code, warning.field) for warning in file.warnings] == [
        ("image-animated", "image")
    ]
    assert close([image_of(data, MAX_PIXELS).getpixel((8, 8))], [RED])  # type: ignore[list-item]
    assert open_image("image", packed(frames[0], kind), MAX_PIXELS).warnings == ()


# ---- kinds of pixels ---------------------------------------------------------------------------


def png_of_16_bits(colour: int, pixel: bytes, *chunks: bytes) -> bytes:
    """Return a PNG, 8 x 8, all pixels of which are `pixel`, with 16 bits for each channel."""
    header = struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0)
    rows = zlib.compress(8 * (b"\0" + 8 * pixel))
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", rows), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (png_of_16_bits(0, b"\x80\x12"), (128, 128, 128)),
        (png_of_16_bits(2, b"\xff\xff\x80\x12\0\0"), (255, 128, 0)),
        (png_of_16_bits(4, b"\x80\x12\xff\xff"), (128, 128, 128)),
        (png_of_16_bits(4, b"\x80\x12\0\0"), WHITE),
        (png_of_16_bits(6, b"\xff\xff\x80\x12\0\0\xff\xff"), (255, 128, 0)),
        (png_of_16_bits(0, b"\x80\x12", png_chunk(b"tRNS", b"\x80\x12")), WHITE),
        (png_of_16_bits(0, b"\x80\x12", png_chunk(b"tRNS", b"\x10\x12")), (128, 128, 128)),
        (
            png_of_16_bits(2, b"\xff\xff\x80\x12\0\0", png_chunk(b"tRNS", bytes(6))),
            (255, 128, 0),
        ),
    ],
)
def test_png_of_16_bits(data: bytes, colour: tuple[int, int, int]) -> None:
    assert image_of(data, MAX_PIXELS).getpixel((4, 4)) == pytest.approx(colour, abs=1)


def test_transparent_colour_of_a_palette_is_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(0, (0, 0, 4, 8))
    found = image_of(packed(image, transparency=0), MAX_PIXELS)
    assert [found.getpixel((x, 4)) for x in (1, 6)] == [WHITE, RED]
    shares = image_of(packed(image, transparency=bytes([255, 128])), MAX_PIXELS)
    assert shares.getpixel((6, 4)) == pytest.approx((255, 127, 127), abs=1)


@pytest.mark.parametrize("options", [{}, {"icc_profile": profile()}, {"progressive": True}])
def test_cmyk_jpeg_is_converted(options: dict[str, object]) -> None:
    image = Image.new("RGB", (16, 16), (200, 100, 50)).convert("CMYK")
    found = image_of(packed(image, "JPEG", quality=95, **options), MAX_PIXELS)
    assert found.getpixel((8, 8)) == pytest.approx((200, 100, 50), abs=6)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("size", [(25, 20), (100, 300)])
def test_image_is_resized_as_by_one_step(kind: str, size: tuple[int, int]) -> None:
    """Reducing it first, in its decoder or in strips, makes no visible difference."""
    data = packed(gradient(500, 400), kind, quality=95, **({"speed": 10} if kind == "AVIF" else {}))
    expected = image_of(data, MAX_PIXELS).resize(size, Image.Resampling.LANCZOS)
    found = image_of(data, MAX_PIXELS, size)
    differences = [abs(a - b) for a, b in zip(found.tobytes(), expected.tobytes(), strict=True)]
    assert sum(differences) / len(differences) < 3
