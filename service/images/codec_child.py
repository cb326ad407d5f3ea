"""Program that decodes one AVIF or HEIC file: the file on stdin, the rows of pixels on stdout.

It is a process of its own because the codecs allocate what the compressed video asks for, whatever
the size in the file's header: the first argument is the bytes it may allocate. It imports nothing
of ours, so that it starts quickly.
"""

import io
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import AvifImagePlugin, Image

ROWS = 64  # written at once


def main(max_bytes: int, kind: str) -> None:
    """Write mode and size of the image in a line, then its rows."""
    decode = _heic_decoder() if kind == "HEIF" else _avif
    data = sys.stdin.buffer.read()
    _limit_memory(max_bytes)
    decode(data)


def _limit_memory(max_bytes: int) -> None:
    """Limit what is allocated from now on; where the system cannot tell, to twice as much."""
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text().split()[0]) if statm.exists() else 0
    used = pages * resource.getpagesize() or max_bytes
    resource.setrlimit(resource.RLIMIT_AS, (used + max_bytes, used + max_bytes))


def _avif(data: bytes) -> None:
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each further thread needs memory of its own
    image = Image.open(io.BytesIO(data), formats=("AVIF",))
    image.load()
    _write_head(image.mode, image.size)
    for top in range(0, image.height, ROWS):
        strip = image.crop((0, top, image.width, min(image.height, top + ROWS)))
        sys.stdout.buffer.write(strip.tobytes())


def _heic_decoder() -> Callable[[bytes], None]:
    import pi_heif  # an optional package

    pi_heif.options.DECODE_THREADS = 1

    def decode(data: bytes) -> None:
        image = pi_heif.open_heif(data, convert_hdr_to_8bit=True)
        pixels = image.data
        _write_head(image.mode, image.size)
        sys.stdout.buffer.write(pixels)

    return decode


def _write_head(mode: str, size: tuple[int, int]) -> None:
    sys.stdout.buffer.write(f"{mode} {size[0]} {size[1]}\n".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
