"""Tests of the arguments of `darkroom generate` against the request that a worker receives."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from darkroom.__main__ import main
from protocol.errors import JobFailed
from protocol.queue.job import FinishReason
from protocol.request.model_card import UpscalerInfo
from protocol.request.request import (
    GenerationRequest,
    HiresFix,
    LoraUse,
    Refinement,
    Tiles,
    Upscaling,
)
from protocol.request.tasks import Task
from tests.service.conftest import ABLE, Running, running

CARD = ABLE.model_copy(
    update={
        "loras": ("oil.paint", "pencil"),
        "refiners": ("finer",),
        "upscalers": (UpscalerInfo(name="sharp", scale=3),),
    }
)


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    with running(redis_url, CARD) as service:
        yield service


@pytest.fixture
def image_file(tmp_path: Path) -> str:
    """Write an image whose left half is white and return its path."""
    image = Image.new("RGB", (64, 32))
    image.paste("white", (0, 0, 32, 32))
    path = tmp_path / "given.png"
    image.save(path)
    return str(path)


def request_of(service: Running, output: Path, *arguments: str) -> GenerationRequest:
    """Run `darkroom generate` with these arguments and return the request the worker received."""
    assert main(["generate", "-o", str(output), "--url", service.url, *arguments]) == 0
    return service.worker.seen[-1]


def test_options_become_request_fields(service: Running, tmp_path: Path) -> None:
    request = request_of(
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


def test_task_depends_on_the_given_files(service: Running, tmp_path: Path, image_file: str) -> None:
    output = tmp_path / "out.png"
    img2img = request_of(service, output, "a cat", "--image", image_file, "--strength", "0.5")
    assert (img2img.task, img2img.strength, img2img.width) == (Task.IMG2IMG, 0.5, 64)
    inpaint = request_of(service, output, "a cat", "--image", image_file, "--mask", image_file)
    assert (inpaint.task, inpaint.mask_key is not None) == (Task.INPAINT, True)
    with Image.open(output) as image:  # the fake worker returns a red image
        assert (image.getpixel((8, 8)), image.getpixel((48, 8))) == ((255, 0, 0), (0, 0, 0))
    upscale = request_of(service, output, "--image", image_file, "--upscale")
    assert (upscale.task, upscale.width, upscale.height) == (Task.UPSCALE, 128, 64)
    refined = request_of(service, output, "a cat", "--refiner", "finer")
    assert refined.refinement == Refinement(model="finer", start=0.8)


def test_outpainting(service: Running, tmp_path: Path, image_file: str) -> None:
    command = ("a cat", "--image", image_file, "--outpaint")
    borders = ("--left", "8", "--bottom", "5", "--edge-blend", "2")
    by_pixels = request_of(service, tmp_path / "out.png", *command, *borders).outpainting
    assert by_pixels is not None
    result, image = by_pixels.result, by_pixels.image
    assert (result.width, result.height, by_pixels.blend) == (72, image.height + 5, 2)
    assert image.left - result.left == 8
    to_size = ("--size", f"72x{image.height + 5}", "--anchor", "top-right", "--edge-blend", "2")
    assert request_of(service, tmp_path / "out.png", *command, *to_size).outpainting == by_pixels


def test_image_is_upscaled_by_the_named_upscaler(
    service: Running, tmp_path: Path, image_file: str
) -> None:
    output, image = tmp_path / "out.png", ("--image", image_file)
    upscaled = request_of(service, output, *image, "--upscaler", "sharp")
    assert (upscaled.task, upscaled.width, upscaled.height) == (Task.UPSCALE, 192, 96)
    mixed = request_of(
        service,
        output,
        *(*image, "--upscale", "--upscaler", "sharp", "--scale", "2.5"),
        *("--upscaler-2", "lanczos", "--upscaler-blend", "0.25"),
    )
    assert mixed.upscaling == Upscaling(
        upscaler="sharp", upscaler_2="lanczos", blend=0.25, scale=2.5
    )
    assert (mixed.width, mixed.height) == (160, 80)
    with Image.open(output) as written:
        assert written.size == (160, 80)
    tiled = request_of(
        service,
        output,
        *("a cat", *image, "--upscaler", "sharp", "--scale", "2"),
        *("--tile-size", "64", "--tile-overlap", "16"),
    )
    assert (tiled.task, tiled.width, tiled.height) == (Task.IMG2IMG, 128, 64)
    assert tiled.tiles == Tiles(size=64, overlap=16, upscaler="sharp")
    hires = request_of(service, output, "a cat", "--hires", "2", "--hires-upscaler", "sharp")
    assert (hires.task, hires.enlargement and hires.enlargement.upscaler) == (
        Task.TXT2IMG,
        "sharp",
    )


def test_extra_files_are_written_next_to_the_images(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = CARD.model_copy(update={"outputs": ("image", "sound")})
    with running(redis_url, card) as service:
        request_of(service, tmp_path / "tune.png", "a fugue", "-n", "2", "--audio", "flac")
        assert "flagged" not in capsys.readouterr().err
        service.worker.finish_reason = FinishReason.CONTENT_FILTERED
        request_of(service, tmp_path / "other.png", "a fugue")
    names = ["other.png", "tune-1-sound.flac", "tune-1.png", "tune-2-sound.flac", "tune-2.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "tune-2-sound.flac").read_bytes() == b"sound 1"
    printed = capsys.readouterr().err.replace("\n", "")
    assert f"{tmp_path / 'other.png'}: the model's safety checker has flagged it" in printed


def test_warning_about_a_mask_is_printed(
    service: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    Image.new("RGB", (64, 64), "teal").save(image)
    for colour, warned in (("white", False), ("black", True)):
        Image.new("L", (64, 64), colour).save(mask)
        request_of(service, tmp_path / "o.png", "x", "--image", str(image), "--mask", str(mask))
        printed = capsys.readouterr().err
        assert ("warning: The mask marks nothing" in printed) == warned


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a cat", "--lora", "crayon"], ("loras", "crayon", "one of oil.paint, pencil")),
        (["a cat", "--steps", "99"], ("steps", "99", "at most 50")),
        (["--upscale"], ("image", "missing", "given")),
        (["--upscaler", "lanczos"], ("image", "missing", "given")),
        (["a cat", "--hires-upscaler", "sharp"], ("hires_upscaler", "sharp", "absent")),
        ([], ("prompt", "missing", "given")),
    ],
)
def test_error_names_field_value_and_bound(
    service: Running,
    tmp_path: Path,
    arguments: list[str],
    message: tuple[str, str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "never.png"
    assert main(["generate", "-o", str(output), "--url", service.url, *arguments]) == 1
    field, value, bound = message
    printed = capsys.readouterr().err.replace('"', "")
    assert f"darkroom: {field} is {value}, but must be {bound}" in printed
    assert not output.exists()


def test_prompts_of_a_file_become_numbered_files(service: Running, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\n\n  a dog  \na fish\n")
    output = tmp_path / "out.png"
    request_of(service, output, "--prompts", str(prompts), "-n", "2", "--seed", "5")
    assert sorted(request.prompt for request in service.worker.seen) == ["a cat", "a dog", "a fish"]
    written = sorted(path.name for path in tmp_path.glob("*.png"))
    assert written == [f"out-{number}.png" for number in range(1, 7)]


def test_prompts_of_standard_input(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a cat\r\na dog")))
    request_of(service, tmp_path / "out.png", "--prompts", "-")
    assert {request.prompt for request in service.worker.seen} == {"a cat", "a dog"}


@pytest.mark.parametrize(
    ("content", "message"), [(b"\n \n", "has no prompt"), (b"\xff", "is not text in UTF-8")]
)
def test_prompts_that_cannot_be_used(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_bytes(content)
    for arguments in (["--prompts", str(prompts)], ["a cat", "--prompts", str(prompts)]):
        with pytest.raises(SystemExit):
            main(["generate", *arguments])
    assert message in capsys.readouterr().err


def test_failing_prompt_ends_the_others(
    service: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.worker.error = JobFailed("out of memory")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na dog")
    output, url = str(tmp_path / "out.png"), service.url
    assert main(["generate", "--prompts", str(prompts), "-o", output, "--url", url]) == 1
    assert "darkroom: the job failed: out of memory" in capsys.readouterr().err.splitlines()


def test_json_is_a_line_for_each_image(
    service: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files of the fake worker have no recipe."""
    request_of(service, tmp_path / "out.png", "a cat", "-n", "2", "--seed", "5", "--json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["seed"] for line in lines] == [5, 6]
    assert [Path(line["file"]).name for line in lines] == ["out-1.png", "out-2.png"]
    assert {line["job"] for line in lines} == set(service.worker.jobs)
    assert [line["request"] for line in lines] == [None, None]
