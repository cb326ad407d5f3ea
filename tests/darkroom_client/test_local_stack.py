"""The Python client against a real local stack: both clients, and the examples of docstrings."""

from __future__ import annotations

import asyncio
import doctest
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

import darkroom_client
from darkroom.__main__ import main
from darkroom_client import (
    AsyncClient,
    Client,
    InvalidRequest,
    JobCancelled,
    JobState,
    JobStatus,
    UnknownJob,
    async_client,
    records,
)
from darkroom_client import client as client_module
from darkroom_client.fields import ImageInput
from tests.support.imports import ROOT


def test_images_with_seed_progress_and_recipe(stack_url: str) -> None:
    seen: list[JobStatus] = []
    with Client(stack_url) as client:
        result = client.generate(
            "a red cat", steps=5, seed=7, n=2, previews=True, on_progress=seen.append
        )
        assert [image.seed for image in result.images] == [7, 8]
        assert {image.pil().size for image in result.images} == {(32, 32)}
        assert seen[-1].state is JobState.FINISHED
        assert result.timings["total"] > 0
        recipe = result.images[1].recipe()
        assert recipe == client.read_recipe(result.images[1].content)
        assert (recipe.source, recipe.task, recipe.needs) == ("darkroom", "txt2img", ())
        assert recipe.request is not None
        again = client.run("txt2img", **recipe.request)
    assert again.image.content == result.images[1].content


async def test_both_clients_give_the_same_bytes(stack_url: str) -> None:
    async with AsyncClient(stack_url) as client:
        first, second = await asyncio.gather(
            *(client.generate("a cat", steps=4, seed=seed) for seed in (1, 2))
        )
        recipe = await second.image.recipe()
    assert recipe.request is not None
    assert (recipe.request["prompt"], recipe.request["seed"]) == ("a cat", 2)
    with Client(stack_url) as blocking:
        again = blocking.generate("a cat", steps=4, seed=1)
        assert again.image.content == first.image.content
        waited = blocking.job(first.id).wait()
        assert waited.image.recipe() == again.image.recipe()
    assert first.image.content != second.image.content


def test_image_inputs_of_every_kind(stack_url: str, tmp_path: Path) -> None:
    with Client(stack_url) as client:
        image = client.generate("a cat", steps=3, seed=1).image
        image.save(path := tmp_path / "cat.png")
        with path.open("rb") as file:
            kinds: list[ImageInput] = [image, image.content, path, file, image.pil()]
            results = {
                client.img2img("a dog", kind, steps=3, seed=2).image.content for kind in kinds
            }
        assert len(results) == 1
        with pytest.raises(TypeError, match="image is str, but must be bytes"):
            client.img2img("a dog", str(path))  # type: ignore[arg-type]


def test_inpainting_outpainting_and_upscaling(stack_url: str) -> None:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    with Client(stack_url) as client:
        image = client.generate("a cat", steps=3).image
        inpainted = client.inpaint("a dog", image, mask, steps=3).image
        half = (16, 0, 32, 32)
        assert inpainted.pil().crop(half).tobytes() == image.pil().crop(half).tobytes()
        assert client.outpaint("a cat", image, left=8, steps=3).image.width == 40
        assert client.upscale(image, upscaler="nearest", scale=3).image.height == 96


def test_warnings_of_a_request(stack_url: str) -> None:
    with Client(stack_url) as client:
        image = client.generate("a cat", steps=3).image
        result = client.inpaint("a dog", image, Image.new("L", (32, 32)), steps=3)
    [warning] = result.warnings
    assert (warning.code, warning.field) == ("mask-empty", "mask")


def test_running_job_is_cancelled_by_its_events(stack_url: str) -> None:
    with Client(stack_url) as client:
        job = client.submit("txt2img", prompt="a cat", steps=150, n=4)
        states = []
        for status in job.events():
            states.append(status.state)
            if len(states) == 1:
                job.cancel()
        assert states[-1] is JobState.CANCELLED
        with pytest.raises(JobCancelled):
            job.wait()
        assert job.retry().cancel().id != job.id
        job.delete()
        with pytest.raises(UnknownJob):
            job.status()


async def test_cancelled_task_cancels_its_job(stack_url: str) -> None:
    seen: list[JobStatus] = []
    async with AsyncClient(stack_url) as client:
        running = asyncio.ensure_future(
            client.generate("a cat", steps=150, n=4, on_progress=seen.append)
        )
        while not seen:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        states = [status.state async for status in client.job(seen[0].id).events()]
    assert states[-1] is JobState.CANCELLED


def test_callback_that_raises_cancels_the_job(stack_url: str) -> None:
    seen: list[str] = []

    def stop(status: JobStatus) -> None:
        seen.append(status.id)
        raise KeyboardInterrupt

    with Client(stack_url) as client:
        with pytest.raises(KeyboardInterrupt):
            client.generate("a cat", steps=150, n=4, on_progress=stop)
        with pytest.raises(JobCancelled):
            client.job(seen[0]).wait()


def test_batch_and_list(stack_url: str) -> None:
    done: list[tuple[int, int]] = []
    with Client(stack_url) as client:
        batch = client.batch(["a cat", "a dog", "a fish"], steps=2, seed=5)
        results = batch.wait(lambda *progress: done.append(progress))
        assert done == [(1, 3), (2, 3), (3, 3)]
        assert len({result.image.content for result in results}) == 3
        assert batch.status().states[JobState.FINISHED] == 3
        ids = [job.id for job in batch.jobs()]
        assert [result.id for result in results] == ids
        newest = [job for job, _ in zip(client.jobs(state=JobState.FINISHED), ids, strict=False)]
        assert {job.id for job in newest} == set(ids)
        assert {(job.model, job.task) for job in newest} == {("tiny", "txt2img")}


def test_bad_field_is_named(stack_url: str) -> None:
    with Client(stack_url) as client, pytest.raises(InvalidRequest) as caught:
        client.generate("a cat", width=33)
    error = caught.value
    assert (error.field, error.problem.value, error.bound) == ("width", 33, "a multiple of 4")
    assert error.kind == "size-not-a-multiple"


PAGE = (ROOT / "docs" / "python-client.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_examples_of_the_page(
    stack_url: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = BLOCKS[number].replace("http://127.0.0.1:8000", stack_url)
    exec(compile(code, f"block {number}", "exec"), {"__name__": "example"})


def test_page_has_examples() -> None:
    assert len(BLOCKS) >= 7


@pytest.mark.parametrize(
    "module", [client_module, async_client, records], ids=lambda module: module.__name__
)
def test_examples_of_docstrings(
    stack_url: str, module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = io.StringIO()
    count = 0
    with Client(stack_url) as client:
        names = vars(darkroom_client) | {"url": stack_url, "client": client, "asyncio": asyncio}
        for test in doctest.DocTestFinder(exclude_empty=True).find(module):
            ran = doctest.DocTestRunner().run(
                doctest.DocTest(
                    test.examples, dict(names), test.name, test.filename, test.lineno, None
                ),
                out=output.write,
            )
            count += ran.attempted
    assert "Failed" not in output.getvalue(), output.getvalue()
    assert count >= 2


def test_command_line_prints_the_recipe(
    stack_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sent again, the recipe gives the same file."""
    output = tmp_path / "cat.webp"
    arguments = ["a cat", "--steps", "3", "--json", "-o", str(output), "--url", stack_url]
    assert main(["generate", *arguments]) == 0
    [line] = capsys.readouterr().out.splitlines()
    recipe = json.loads(line)
    assert (recipe["task"], recipe["request"]["seed"]) == ("txt2img", recipe["seed"])
    with Client(stack_url) as client:
        again = client.run("txt2img", **recipe["request"]).image
    assert again.content == output.read_bytes()
