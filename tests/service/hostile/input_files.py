"""Image files as cameras, editors and attackers write them, beyond those of `test_hostile`."""

import struct
from pathlib import Path
from typing import Any

from PIL import Image

from tests.service.sample_images import gradient, packed, png_chunk, with_chunks

DATA = Path(__file__).parents[1] / "images" / "data"


def claiming(data: bytes, width: int, height: int) -> bytes:
    """Return an AVIF or HEIC file that claims another size in its header."""
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


def input_files() -> dict[str, bytes]:
    """Return the files by a description."""
    image = gradient()
    avif, heic = packed(image, "AVIF", speed=10), (DATA / "turned.heic").read_bytes()
    large = (DATA / "large.avif").read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    frames: dict[str, Any] = {"save_all": True, "append_images": [image.rotate(90)] * 3}
    palette = image.convert("P")
    files = {
        "an AVIF": avif,
        "an AVIF that is turned": packed(image, "AVIF", speed=10, exif=exif),
        "an AVIF that is transparent": packed(image.convert("RGBA"), "AVIF", speed=10),
        "an animated AVIF": packed(image, "AVIF", speed=10, **frames),
        "an AVIF of 16 million pixels": large,
        "an AVIF that claims 64 x 64 and has 16 million pixels": claiming(large, 64, 64),
        "an AVIF that claims no pixel": claiming(avif, 0, 0),
        "an AVIF that claims 2^32 pixels a side": claiming(avif, 2**32 - 1, 2**32 - 1),
        "an AVIF that claims more than it has": claiming(avif, 512, 512),
        "an AVIF cut short": avif[:-20],
        "an AVIF of only a head": avif[:40],
        "an AVIF with the brand of a HEIC": avif.replace(b"ftypavif", b"ftypheic"),
        "a HEIC": heic,
        "a HEIC cut short": heic[:-20],
        "a HEIC of only a head": heic[:40],
        "a HEIC that claims no pixel": claiming(heic, 0, 0),
        "a HEIC that claims 2^31 pixels a side": claiming(heic, 2**31 - 1, 2**31 - 1),
        "a HEIC that claims more than it has": claiming(heic, 512, 512),
        "a HEIC with the brand of an AVIF": heic.replace(b"ftypheic", b"ftypavif"),
        "a HEIC of an unknown brand": heic.replace(b"ftypheic", b"ftypxxxx"),
        "a HEIC of 49 million pixels": (DATA / "photo.heic").read_bytes(),
        "an animated PNG": packed(image, **frames),
        "a PNG with half a number of frames": with_chunks(packed(image), png_chunk(b"acTL", b"")),
        "a palette with a transparent colour": packed(palette, transparency=0),
        "a palette with shares": packed(palette, transparency=bytes(range(256))),
        "a palette with more shares than colours": packed(palette, transparency=bytes(300)),
        "grey with a transparent level": packed(image.convert("L"), transparency=9),
        "colours with a transparent one": packed(image, transparency=(2, 4, 3)),
        "a progressive CMYK JPEG": packed(image.convert("CMYK"), "JPEG", progressive=True),
        "a JPEG without subsampling": packed(image, "JPEG", subsampling=0),
        "a grey JPEG": packed(image.convert("L"), "JPEG"),
        "a progressive JPEG of 65,500 x 65,500": _claiming_jpeg(image),
        "a transparent WebP": packed(image.convert("LA").convert("RGBA"), "WEBP"),
    }
    edges = {f"{w} x {h}": packed(gradient(w, h)) for w, h in ((1, 1), (1, 900), (900, 1), (7, 5))}
    return files | edges


def _claiming_jpeg(image: Image.Image) -> bytes:
    jpeg = packed(image, "JPEG", progressive=True)
    return jpeg.replace(b"\x00\x40\x00\x40\x03", b"\xff\xdc\xff\xdc\x03")
