"""The images of the bundled model against those that were kept, with a bound for other processors.

`python -m tests.golden check` allows no difference; README.md has the figures behind the bounds.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.golden.comparison import difference, metadata
from tests.golden.requests import KEPT, GoldenRequest, all_requests, generate
from tests.golden.service import running_service

pytestmark = pytest.mark.early

# By file format, in levels of 0 to 255: quantisation multiplies the differences of lossy files.
LARGEST_DIFFERENCE = {"png": 2, "jpeg": 16, "webp": 16}
MEAN_DIFFERENCE = {"png": 0.01, "jpeg": 0.2, "webp": 0.2}

# Every task, every kind of step (one and two evaluations, history, fresh noise), every file format
# and every kind of added file; the rest is in `make test-all`.
SAMPLE = {
    "sampler-plms",
    "sampler-dpm2-ancestral",
    "sampler-dpmpp-3m-sde",
    "sampler-unipc",
    "ddim-eta",
    "guidance-interval",
    "emphasis",
    "jpeg",
    "second-pass",
    "img2img",
    "inpaint-with-additions",
    "loras",
    "turbo",
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client of a running service."""
    with running_service() as client:
        yield client


def cases() -> list[object]:
    """Every request as a case, those outside the sample marked as long."""
    return [
        pytest.param(
            request,
            id=request.name,
            marks=() if request.name in SAMPLE else pytest.mark.long,
        )
        for request in all_requests()
    ]


@pytest.mark.parametrize("request_", cases())
def test_images_are_those_that_were_kept(client: httpx.Client, request_: GoldenRequest) -> None:
    for name, file in generate(client, request_).items():
        expected = (KEPT / name).read_bytes()
        assert metadata(file) == metadata(expected), name
        apart = difference(expected, file)
        suffix = name.rpartition(".")[2]
        assert apart.largest <= LARGEST_DIFFERENCE[suffix], name
        assert apart.mean <= MEAN_DIFFERENCE[suffix], name


def test_requests_cover_every_task_sampler_and_schedule(client: httpx.Client) -> None:
    requests = all_requests()
    [card] = client.get("/v1/models").json()["models"]
    assert {request.task for request in requests} == set(card["tasks"])
    for field in ("sampler", "schedule"):
        used = {request.body.get(field, card[f"default_{field}"]) for request in requests}
        assert used == set(card[f"{field}s"])


def test_sample_names_requests_and_there_is_no_image_without_one() -> None:
    requests = all_requests()
    assert len(requests) == len({request.name for request in requests}) == 42
    assert {request.name for request in requests} >= SAMPLE
    files = {name for request in requests for name in request.file_names}
    assert {file.name for file in KEPT.iterdir()} == files
