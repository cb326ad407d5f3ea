"""Files of each format, and the parameters in a PNG."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from protocol.request.object_keys import OutputFormat
from protocol.request.request import GenerationRequest
from tests.worker.consumer.harness import request
from worker.output.image_files import encode

GRADIENT = np.stack(np.meshgrid(*[np.arange(0, 256, 8, dtype=np.uint8)] * 3)[:3], -1)[0]


def opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


@pytest.mark.parametrize("output_format", list(OutputFormat))
def test_each_format_contains_the_image(output_format: OutputFormat) -> None:
    file = encode(GRADIENT, request(output_format=output_format, quality=95), seed=1)
    image = opened(file)
    assert image.format == output_format.name
    assert (image.width, image.height) == (GRADIENT.shape[1], GRADIENT.shape[0])
    difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - GRADIENT)
    assert difference.mean() <= (0 if output_format is OutputFormat.PNG else 12)


def test_quality_is_used() -> None:
    low, high = (
        encode(GRADIENT, request(output_format="jpeg", quality=quality), 1) for quality in (10, 95)
    )
    assert len(low) < len(high)


def test_png_contains_its_parameters() -> None:
    one = request(
        task="img2img", image_key=f"inputs/{'0' * 64}", strength=0.5, prompt="ein Herz ♥", n=4
    )
    image = opened(encode(GRADIENT, one, seed=44))
    assert isinstance(image, PngImageFile)
    assert image.text["Prompt"] == "ein Herz ♥"
    assert image.text["Seed"] == "44"
    assert image.text["Steps"] == "3"
    assert image.text["Strength"] == "0.5"
    assert image.text["Size"] == "16x16"
    again = GenerationRequest.model_validate(json.loads(image.text["darkroom"]))
    assert again == one.model_copy(update={"seed": 44, "n": 1})


def test_png_of_a_class_contains_the_class_and_no_prompt() -> None:
    image = opened(encode(GRADIENT, request(task="class", class_id=207, prompt=""), seed=44))
    assert isinstance(image, PngImageFile)
    assert image.text["Class"] == "207"
    assert "Prompt" not in image.text


@given(prompt=st.text(st.characters(), max_size=200))
@hypothesis_settings(max_examples=50, deadline=None)
def test_any_prompt_fits_into_a_png(prompt: str) -> None:
    one = request().model_copy(update={"prompt": prompt})
    image = opened(encode(GRADIENT[:4, :4], one, seed=1))
    assert isinstance(image, PngImageFile)
    readable = prompt.replace("\0", "").encode("utf-8", "replace").decode()
    assert image.text["Prompt"] == readable


def test_jpeg_and_webp_contain_no_parameters() -> None:
    secret = "canary in the coal mine"
    for output_format in (OutputFormat.JPEG, OutputFormat.WEBP):
        file = encode(GRADIENT, request(output_format=output_format, prompt=secret), 1)
        assert secret.encode() not in file
