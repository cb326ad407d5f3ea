"""The pixels of an image file, reduced while they are read so that they take little memory.

JPEG files are reduced by their decoder (pillow's draft mode). All others, and what remains, are
reduced in strips, which are converted one by one: the whole image exists once in full size at most.
"""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from PIL import Image

from service.images.image_file import HEIC, ImageFile, Size

Convert = Callable[[Image.Image], Image.Image]

CHILD = Path(__file__).with_name("codec_child.py")
CHILD_FORMATS = ("AVIF", HEIC)
CHILD_BYTES = 2**24  # what it may allocate in addition to the image
CHILD_TIMEOUT_S = 60.0
DRAFT_SCALES = (8, 4, 2)  # by which a JPEG decoder can reduce
GAPS = (2, 1)  # how much larger than needed a reduced image is; 2 is as good as no reduction
STRIP_BYTES = 2**20
OVERHEAD = 2**23  # bytes: strips in all their conversions, the encoder


@dataclass(frozen=True)
class Reduction:
    """The reduction of a file, by its decoder and then in strips, and the bytes it takes."""

    draft: int
    factor: int
    bytes: int


def choose_reduction(file: ImageFile, target: Size, budget: int, plain: bool) -> Reduction:
    """Return a good reduction for an image that is resized to `target`, within `budget` if any is.

    `target` is as in the file. `plain`: the decoded pixels need no conversion.
    """
    options = [_reduction(file, target, gap, plain) for gap in GAPS]
    return next((option for option in options if option.bytes <= budget), options[-1])


def _reduction(file: ImageFile, target: Size, gap: int, plain: bool) -> Reduction:
    width, height = file.stored
    largest = min(width // (gap * target[0]), height // (gap * target[1]))
    draft = 1
    if file.format == "JPEG":
        draft = next((scale for scale in DRAFT_SCALES if scale <= largest), 1)
    factor = max(1, largest // draft)
    decoded = -(-width // draft) * -(-height // draft)
    reduced = -(-decoded // factor**2)
    whole = 0 if file.format in CHILD_FORMATS else file.pixel_bytes * decoded
    copy = 0 if plain and factor == 1 else 4 * reduced
    resizing = 4 * (target[0] * (height // (draft * factor) + 1) + 2 * target[0] * target[1])
    peak = max(file.decoder_bytes + whole + copy, 4 * reduced + resizing)
    return Reduction(draft, factor, peak + len(file.data) + OVERHEAD)


def read_reduced(file: ImageFile, reduction: Reduction, convert: Convert) -> Image.Image:
    """Return the pixels of `file`, converted, reduced, as they are in the file."""
    factor = reduction.factor
    size = tuple(-(-side // (reduction.draft * factor)) for side in file.stored)
    with strips(file, factor, reduction.draft) as found:
        reduced: Image.Image | None = None
        top = 0
        for strip in found:
            part = convert(strip)
            if factor > 1:
                part = part.reduce(factor)
            if part.size == size:
                return part
            reduced = reduced or Image.new(part.mode, size)  # type: ignore[arg-type]
            reduced.paste(part, (0, top))
            top += part.height
    assert reduced is not None
    return reduced


@contextmanager
def strips(file: ImageFile, factor: int = 1, draft: int = 1) -> Iterator[Iterator[Image.Image]]:
    """Decode `file` and yield its strips, from the top; the height of each is a multiple of
    `factor`, but for the last."""
    width, height = (-(-side // draft) for side in file.stored)
    rows = factor * max(1, STRIP_BYTES // (4 * width * factor))
    tops = range(0, height, rows)
    if file.format in CHILD_FORMATS:
        with _child(file) as output:
            yield (_raw_strip(file, output, min(rows, height - top)) for top in tops)
        return
    image: Image.Image = decoded(file, draft)
    yield (image.crop((0, top, width, min(height, top + rows))) for top in tops)


def decoded(file: ImageFile, draft: int = 1) -> Image.Image:
    """Return the first frame as pillow decodes it, reduced by `draft` if it is a JPEG."""
    image: Image.Image = Image.open(io.BytesIO(file.data), formats=(file.format,))
    if draft > 1:
        image.draft(None, tuple(side // draft for side in file.stored))  # type: ignore[arg-type]
    image.load()
    return image


@contextmanager
def _child(file: ImageFile) -> Iterator[io.BufferedReader]:
    """Decode a file in a process of its own and yield its rows of pixels as a stream.

    Raises `ValueError` or `OSError` if it fails, takes more time or memory than it may, or if it is
    not an image like that in the header.
    """
    pixels = file.stored[0] * file.stored[1]
    allowed = CHILD_BYTES + file.decoder_bytes + len(file.data) + file.pixel_bytes * pixels
    command = [sys.executable, "-I", str(CHILD), str(allowed), file.format]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        timer = Timer(CHILD_TIMEOUT_S, process.kill)
        timer.start()
        try:
            assert process.stdin is not None
            assert isinstance(process.stdout, io.BufferedReader)
            process.stdin.write(file.data)
            process.stdin.close()
            head = process.stdout.readline(100).decode().split()
            if head != [file.mode, *map(str, file.stored)]:
                raise ValueError("not the image of the header")
            yield process.stdout
        finally:
            timer.cancel()
            process.kill()


def _raw_strip(file: ImageFile, rows: io.BufferedReader, height: int) -> Image.Image:
    width = file.stored[0]
    data = rows.read(width * len(file.mode) * height)
    strip = Image.frombytes(file.mode, (width, height), data)
    return strip.convert("RGBA") if file.mode == "RGBa" else strip
