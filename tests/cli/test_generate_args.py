"""What is asked for on the command line is what a worker gets to draw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from darkroom.__main__ import main
from protocol.queue.job import FinishReason
from protocol.request.request import GenerationRequest, HiresFix, LoraUse, Refinement
from protocol.request.tasks import Task
from tests.service.conftest import ABLE, Running, running

CARD = ABLE.model_copy(update={"loras": ("oil.paint", "pencil"), "refiners": ("finer",)})


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    with running(redis_url, CARD) as service:
        yield service


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """The path of one, half of it white."""
    image = Image.new("RGB", (64, 32))
    image.paste("white", (0, 0, 32, 32))
    path = tmp_path / "given.png"
    image.save(path)
    return str(path)


def drawn(service: Running, output: Path, *arguments: str) -> GenerationRequest:
    """The request that `darkroom generate` with these arguments became."""
    assert main(["generate", "-o", str(output), "--url", service.url, *arguments]) == 0
    return service.worker.seen[-1]


def test_words_and_numbers(service: Running, tmp_path: Path) -> None:
    request = drawn(
        service,
        tmp_path / "cat.webp",
        *("a cat", "--negative", "a dog", "--model", "tiny", "--size", "64x32", "--steps", "3"),
        *("--sampler", "euler", "--schedule", "karras", "--guidance", "2", "--seed", "5"),
        *("-n", "2", "--lora", "pencil:0.8", "--lora", "oil.paint", "--hires", "1.5"),
    )
    assert request.task is Task.TXT2IMG
    assert (request.prompt, request.negative_prompt, request.model) == ("a cat", "a dog", "tiny")
    assert (request.width, request.height, request.steps, request.seed) == (64, 32, 3, 5)
    assert (request.sampler, request.schedule, request.guidance_scale) == ("euler", "karras", 2)
    assert request.loras == (LoraUse(name="oil.paint"), LoraUse(name="pencil", weight=0.8))[::-1]
    assert request.enlargement == HiresFix(width=96, height=48, steps=3, strength=0.7)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["cat-1.webp", "cat-2.webp"]
    for name in written:
        with Image.open(tmp_path / name) as image:
            assert image.format == "WEBP"


def test_the_files_given_say_what_to_do(service: Running, tmp_path: Path, picture: str) -> None:
    output = tmp_path / "out.png"
    begun = drawn(service, output, "a cat", "--image", picture, "--strength", "0.5")
    assert (begun.task, begun.strength, begun.width) == (Task.IMG2IMG, 0.5, 64)
    repainted = drawn(service, output, "a cat", "--image", picture, "--mask", picture)
    assert (repainted.task, repainted.mask_key is not None) == (Task.INPAINT, True)
    with Image.open(output) as image:  # the worker of this test paints it red
        assert (image.getpixel((8, 8)), image.getpixel((48, 8))) == ((255, 0, 0), (0, 0, 0))
    enlarged = drawn(service, output, "--image", picture, "--upscale")
    assert (enlarged.task, enlarged.width, enlarged.height) == (Task.UPSCALE, 128, 64)
    refined = drawn(service, output, "a cat", "--refiner", "finer")
    assert refined.refinement == Refinement(model="finer", start=0.8)


def test_what_comes_with_pictures_is_written_beside_them(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = CARD.model_copy(update={"outputs": ("image", "sound")})
    with running(redis_url, card) as service:
        drawn(service, tmp_path / "tune.png", "a fugue", "-n", "2", "--audio", "flac")
        assert "flagged" not in capsys.readouterr().err
        service.worker.finish_reason = FinishReason.CONTENT_FILTERED
        drawn(service, tmp_path / "other.png", "a fugue")
    names = ["other.png", "tune-1-sound.flac", "tune-1.png", "tune-2-sound.flac", "tune-2.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "tune-2-sound.flac").read_bytes() == b"sound 1"
    said = capsys.readouterr().err.replace("\n", "")
    assert f"{tmp_path / 'other.png'}: the model's safety checker has flagged it" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a cat", "--lora", "crayon"], ("loras", "crayon", "one of oil.paint, pencil")),
        (["a cat", "--steps", "99"], ("steps", "99", "at most 50")),
        (["--upscale"], ("image", "missing", "given")),
        ([], ("prompt", "missing", "given")),
    ],
)
def test_the_server_says_what_is_wrong(
    service: Running,
    tmp_path: Path,
    arguments: list[str],
    told: tuple[str, str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "never.png"
    assert main(["generate", "-o", str(output), "--url", service.url, *arguments]) == 1
    field, value, bound = told
    said = capsys.readouterr().err.replace('"', "")
    assert f"darkroom: {field} is {value}, but must be {bound}" in said
    assert not output.exists()
