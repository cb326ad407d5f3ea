"""Files of each format, and the recipe in them."""

import io
import json

import numpy as np
import piexif
import piexif.helper
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile

from protocol.recipes.request_infotext import request_infotext
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


def user_comment(file: bytes) -> str:
    """Return the text that AUTOMATIC1111 reads from a JPEG or WebP file, with the same package."""
    exif = piexif.load(opened(file).info["exif"])
    return str(piexif.helper.UserComment.load(exif["Exif"][piexif.ExifIFD.UserComment]))


@pytest.mark.parametrize("output_format", [OutputFormat.JPEG, OutputFormat.WEBP, OutputFormat.AVIF])
def test_exif_is_that_of_piexif(output_format: OutputFormat) -> None:
    one = request(output_format=output_format, prompt="ein Herz ♥ 😀", n=4)
    file = encode(GRADIENT, one, seed=44)
    text = user_comment(file)
    assert text == request_infotext(one, 44)
    assert text.startswith("ein Herz ♥ 😀\nSteps: 3, ")
    assert ", Seed: 44, Size: 16x16" in text
    # The same tag, written by the package.
    value = piexif.helper.UserComment.dump(text, encoding="unicode")
    tag = opened(file).getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment.value]
    assert tag == value
    note = opened(file).getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote.value]
    again = GenerationRequest.model_validate_json(note.removeprefix(b"darkroom\0"))
    assert again == one.model_copy(update={"seed": 44, "n": 1})


def test_png_has_the_infotext_as_automatic1111_writes_it() -> None:
    for prompt, kind in (("a café", b"tEXt"), ("ein Herz ♥", b"iTXt")):
        file = encode(GRADIENT, request(prompt=prompt), seed=44)
        assert file.find(kind + b"parameters\0") > 0
        assert opened(file).info["parameters"] == request_infotext(request(prompt=prompt), 44)


@pytest.mark.parametrize("output_format", list(OutputFormat))
def test_recipe_is_left_out_if_asked_for(output_format: OutputFormat) -> None:
    one = request(output_format=output_format, prompt="canary", model="coalmine", metadata=False)
    file = encode(GRADIENT, one, seed=1)
    image = opened(file)
    assert not image.getexif()
    assert getattr(image, "text", {}) == {}
    for text in ("canary", "coalmine"):
        assert text.encode() not in file
        assert text.encode("utf-16-be") not in file
    with_recipe = encode(GRADIENT, one.model_copy(update={"metadata": True}), seed=1)
    assert np.array_equal(np.asarray(image), np.asarray(opened(with_recipe)))


@pytest.mark.parametrize(
    ("characters", "has_infotext"), [(10_000, True), (20_000, True), (40_000, False)]
)
def test_jpeg_has_as_much_of_the_recipe_as_fits(characters: int, has_infotext: bool) -> None:
    half = "é" * (characters // 2)
    one = request(output_format=OutputFormat.JPEG).model_copy(
        update={"prompt": half, "negative_prompt": half}
    )
    file = encode(GRADIENT, one, seed=1)
    assert bool(opened(file).getexif()) == has_infotext
    if has_infotext:
        assert half in user_comment(file)
