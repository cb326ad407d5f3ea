"""The memory of decoding: measured in a process of its own, for photos as phones take them."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from protocol.errors import DecodingBusy, PayloadTooLarge
from service.images.decoding_memory import MEBIBYTE, DecodingMemory
from service.images.input_images import InputImages
from tests.service.sample_images import gradient, opened, packed

DATA = Path(__file__).parent / "data"
BUDGET = 256 * MEBIBYTE
MAX_PIXELS = 8192 * 8192
# Decodes files, each as an image and as a mask, and prints the peak memory of itself, without what
# it takes for a small image, and of its children.
PROGRAM = """
import re, resource, sys
from pathlib import Path
from protocol.errors import PayloadTooLarge
from service.images.decoding_memory import DecodingMemory
from protocol.request.generation_params import GenerationParams
from service.images.input_images import InputImages
from service.images.inpainting import InpaintingOptions
from service.images.resize_modes import Placement

def peak():
    # Not ru_maxrss, which starts with the memory of the parent.
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

images = InputImages(DecodingMemory(256 * 2**20), 8192 * 8192)
small, *files = [Path(name).read_bytes() for name in sys.argv[1:]]
images.image(images.open("image", small), (8, 8))
def mask(file, size):
    options = InpaintingOptions.of(GenerationParams())
    return images.hard_mask(file, file.size, Placement(size, size), options)

mask(images.open("mask", small), (8, 8))
at_rest = peak()
for data in files:
    file = images.open("image", data)
    for decode in (images.image, mask):
        try:
            decode(file, (1024, 768))
            print("decoded")
        except PayloadTooLarge:
            print("refused")
print(peak() - at_rest)
print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""

# Prepares an image of noise, which cannot be compressed, to be inpainted. It prints the memory that
# is reserved, and the peak of itself above what it takes for a small image.
INPAINTING = """
import io, json, os, re, sys
from contextlib import contextmanager
from pathlib import Path
from PIL import Image
from protocol.request.generation_params import GenerationParams
from service.images.decoding_memory import DecodingMemory
from service.images.input_images import InputImages
from service.images.inpainting import InpaintingOptions
from service.images.resize_modes import Placement

def status(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def noise(mode, width, height):
    pixels = os.urandom(width * height * Image.getmodebands(mode))
    file = io.BytesIO()
    Image.frombytes(mode, (width, height), pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()

class Memory(DecodingMemory):
    count = 0

    @contextmanager
    def reserved(self, field, image, count):
        self.count = max(self.count, count)
        with super().reserved(field, image, count):
            yield

memory = Memory(2**32)
mode, fields = sys.argv[1], json.loads(sys.argv[2])
options = InpaintingOptions.of(GenerationParams.model_validate(fields))

def prepare(image, mask):
    images = InputImages(memory, 8192 * 8192)
    file = images.open("image", image)
    mask_file = None if options.from_alpha else images.open("mask", mask)
    generated = (512, 512) if options.masked_only else file.size
    return images.inpainting(file, mask_file, Placement(file.size, file.size), options, generated)

prepare(noise(mode, 64, 64), noise("L", 64, 64))
files = noise(mode, 2400, 1800), noise("L", 2400, 1800)
memory.count, before = 0, status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # sets the peak to the memory of now
prepare(*files)
print(memory.count, status("VmHWM") - before)
"""


def photo(megapixels: int, mode: str = "RGB") -> Image.Image:
    """Return an image of 4:3 without noise, which is encoded quickly."""
    height = int((megapixels * 1e6 * 3 / 4) ** 0.5)
    channel = Image.linear_gradient("L").resize((height * 4 // 3, height), Image.Resampling.BOX)
    return Image.merge(mode, [channel] * len(mode))


def outcome(tmp_path: Path, data: bytes) -> tuple[list[str], int, int]:
    """Return what happens to the file as image and mask, and the peaks in bytes."""
    paths = [tmp_path / "small", tmp_path / "large"]
    paths[0].write_bytes(packed(gradient()))
    paths[1].write_bytes(data)
    command = [sys.executable, "-c", PROGRAM, *map(str, paths)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return lines[:-2], int(lines[-2]), int(lines[-1])


long = pytest.mark.long
ON_LINUX = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc"
)
JPEG_420 = {"quality": 75, "subsampling": "4:2:0"}


@ON_LINUX
@pytest.mark.parametrize(
    ("megapixels", "mode", "kind", "options", "expected"),
    [
        pytest.param(24, "RGB", "JPEG", JPEG_420, "decoded decoded", marks=long),
        (50, "RGB", "JPEG", JPEG_420, "decoded decoded"),
        pytest.param(
            50, "RGB", "JPEG", {"progressive": True, **JPEG_420}, "decoded refused", marks=long
        ),
        pytest.param(
            50,
            "RGB",
            "JPEG",
            {"progressive": True, "subsampling": 0},
            "refused refused",
            marks=long,
        ),
        pytest.param(24, "RGB", "PNG", {"compress_level": 1}, "decoded decoded", marks=long),
        (50, "RGBA", "PNG", {"compress_level": 1}, "decoded refused"),
        pytest.param(50, "L", "PNG", {"compress_level": 1}, "decoded decoded", marks=long),
        (14, "RGB", "WEBP", {"method": 0, "quality": 10}, "decoded decoded"),
        pytest.param(
            24, "RGB", "WEBP", {"method": 0, "quality": 10}, "refused refused", marks=long
        ),
        pytest.param(24, "RGB", "AVIF", {"speed": 10}, "decoded refused", marks=long),
        pytest.param(50, "RGB", "AVIF", {"speed": 10}, "refused refused", marks=long),
    ],
)
def test_decoding_stays_within_its_memory(
    tmp_path: Path,
    megapixels: int,
    mode: str,
    kind: str,
    options: dict[str, Any],
    expected: str,
) -> None:
    check(tmp_path, packed(photo(megapixels, mode), kind, **options), expected)


@ON_LINUX
def test_decoding_a_heic_of_49_megapixels_stays_within_its_memory(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif", reason="needs the extra heic")
    check(tmp_path, (DATA / "photo.heic").read_bytes(), "decoded refused")


def check(tmp_path: Path, data: bytes, expected: str) -> None:
    found, peak, of_children = outcome(tmp_path, data)
    print(f"{peak / MEBIBYTE:.0f} MiB, children {of_children / MEBIBYTE:.0f} MiB")
    assert found == expected.split()
    assert peak <= BUDGET
    assert of_children <= BUDGET + 32 * MEBIBYTE  # Python itself


MASKED = {"inpaint_area": "masked", "mask_blur": 4}


@ON_LINUX
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", MASKED),
        ("RGBA", {"mask_source": "alpha", **MASKED}),
        pytest.param("RGBA", MASKED, marks=long),
        pytest.param("RGB", {"mask_blur": 4}, marks=long),
        pytest.param("RGB", {"mask_blur": 4, "masked_content": "fill"}, marks=long),
        pytest.param("RGBA", {"mask_source": "alpha"}, marks=long),
        pytest.param("RGBA", {"mask_source": "alpha", "masked_content": "fill"}, marks=long),
    ],
)
def test_inpainting_stays_within_its_memory(mode: str, options: dict[str, Any]) -> None:
    command = [sys.executable, "-c", INPAINTING, mode, json.dumps(options)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    reserved, peak = map(int, output.split())
    print(f"{reserved / (2400 * 1800):.1f} and {peak / (2400 * 1800):.1f} bytes a pixel")
    assert reserved / 2 < peak <= reserved


def test_image_that_needs_more_than_there_is_gets_a_413() -> None:
    images = InputImages(DecodingMemory(9 * MEBIBYTE), MAX_PIXELS)
    data = packed(Image.new("RGB", (1000, 1000)))
    with pytest.raises(PayloadTooLarge) as raised:
        images.image(images.open("image", data), (8, 8))
    assert raised.value.field == "image"
    assert "PNG image of 1000x1000" in raised.value.message
    assert "at most 9 MiB" in raised.value.message


def test_image_waits_for_the_memory_of_another_one() -> None:
    memory = DecodingMemory(100)
    order: list[str] = []
    waiting = threading.Event()

    def other() -> None:
        waiting.set()
        with memory.reserved("image", "", 60):
            order.append("other")

    with memory.reserved("image", "", 60):
        thread = threading.Thread(target=other)
        thread.start()
        waiting.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_image_that_waits_too_long_gets_a_429() -> None:
    memory = DecodingMemory(100, wait_s=0.01)
    with memory.reserved("image", "", 60):
        with memory.reserved("mask", "", 40):
            pass
        with pytest.raises(DecodingBusy), memory.reserved("mask", "", 41):
            pass
    with memory.reserved("mask", "", 100):  # all is free again
        pass


def test_jpeg_is_reduced_by_its_decoder_only_as_far_as_it_is_used() -> None:
    images = InputImages(DecodingMemory(BUDGET), MAX_PIXELS)
    file = images.open("image", packed(gradient(640, 480), "JPEG", quality=95))
    for size in ((640, 480), (320, 240), (40, 30), (1280, 960), (8, 8)):
        assert opened(images.image(file, size).png).size == size
