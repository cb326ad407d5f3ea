"""The digital source type in the XMP of image files."""

import io
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from protocol.request.object_keys import OutputFormat
from protocol.request.upscaling import FILTERS
from tests.worker.consumer.harness import request
from worker.output.image_files import encode

PIXELS = np.stack(np.meshgrid(*[np.arange(0, 256, 16, dtype=np.uint8)] * 3)[:3], -1)[0]
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype"
GENERATED = f"{VOCABULARY}/trainedAlgorithmicMedia"
COMPOSITE = f"{VOCABULARY}/compositeWithTrainedAlgorithmicMedia"
IMAGE = f"inputs/{'0' * 64}"


def packet(file: bytes) -> str | None:
    """Return the XMP packet where pillow finds it in the format of the file."""
    with Image.open(io.BytesIO(file)) as image:
        found = image.info.get("XML:com.adobe.xmp", image.info.get("xmp"))
    return found.decode() if isinstance(found, bytes) else found


def source_type(file: bytes) -> str:
    text = packet(file)
    assert text is not None
    description = ElementTree.fromstring(text.removeprefix("\ufeff")).find(f".//{RDF}Description")
    assert description is not None
    return description.attrib[IPTC]


@pytest.mark.parametrize("output_format", list(OutputFormat))
def test_each_format_has_the_digital_source_type(output_format: OutputFormat) -> None:
    one = request(output_format=output_format, prompt="canary")
    file = encode(PIXELS, one, seed=1)
    assert source_type(file) == GENERATED
    assert "canary" not in (packet(file) or "")
    assert encode(PIXELS, one, seed=1) == file
    assert packet(encode(PIXELS, one.model_copy(update={"metadata": False}), seed=1)) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"task": "txt2img"}, GENERATED),
        ({"task": "semantic", "image_key": IMAGE}, GENERATED),
        ({"task": "img2img", "image_key": IMAGE, "strength": 0.5}, COMPOSITE),
        ({"task": "inpaint", "image_key": IMAGE, "mask_key": IMAGE, "strength": 1}, COMPOSITE),
        ({"task": "upscale", "image_key": IMAGE}, COMPOSITE),
        (
            {"task": "upscale", "image_key": IMAGE, "upscaling": {"upscaler": "esrgan"}},
            COMPOSITE,
        ),
        (
            {"task": "upscale", "image_key": IMAGE, "upscaling": {"upscaler": FILTERS[0]}},
            f"{VOCABULARY}/algorithmicallyEnhanced",
        ),
        (
            {
                "task": "upscale",
                "image_key": IMAGE,
                "upscaling": {"upscaler": FILTERS[0], "upscaler_2": "esrgan"},
            },
            COMPOSITE,
        ),
    ],
)
def test_source_type_depends_on_the_part_of_the_clients_image(
    changes: dict[str, Any], expected: str
) -> None:
    assert source_type(encode(PIXELS, request(**changes), seed=1)) == expected
