"""The Python client against a service with a fake worker: every task, lost connections, limits."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import get_args

import httpx
import pytest
from PIL import Image

from darkroom_client import (
    AsyncClient,
    Client,
    Forbidden,
    JobFailed,
    JobState,
    JobStatus,
    ServerUnreachable,
    Unauthorized,
    UnknownModel,
)
from darkroom_client import client as client_module
from darkroom_client import jobs as jobs_module
from darkroom_client.fields import Fields, Task, TaskFields
from protocol.errors import JobFailed as JobFailedInWorker
from protocol.request import tasks
from service.schemas.requests import REQUESTS
from tests.darkroom_client.flaky_transport import AsyncFlakyTransport, FlakyTransport, Losses
from tests.service.conftest import ABLE, Running, running
from tests.service.fake_worker import preview
from tests.service.keys import ADMIN_KEY
from tests.service.sample_images import gradient, packed

IMAGE = packed(gradient())
Call = Callable[[Client], object]
CALLS: dict[tasks.Task, Call] = {
    tasks.Task.TXT2IMG: lambda client: client.generate("a cat"),
    tasks.Task.IMG2IMG: lambda client: client.img2img("a cat", IMAGE, strength=0.5),
    tasks.Task.INPAINT: lambda client: client.inpaint("a cat", IMAGE, IMAGE),
    tasks.Task.OUTPAINT: lambda client: client.outpaint("a cat", IMAGE, left=8),
    tasks.Task.UPSCALE: lambda client: client.upscale(IMAGE),
    tasks.Task.UNCONDITIONAL: lambda client: client.unconditional(),
    tasks.Task.CLASS: lambda client: client.class_to_image(3),
    tasks.Task.LAYOUT: lambda client: client.layout_to_image(
        [{"class": 3, "x": 0, "y": 0, "width": 0.5, "height": 0.5}]
    ),
    tasks.Task.SEMANTIC: lambda client: client.semantic_to_image(packed(Image.new("L", (64, 64)))),
}


@pytest.mark.parametrize("task", tasks.Task)
def test_every_task_has_a_method(shared_service: Running, task: tasks.Task) -> None:
    with Client(shared_service.url) as client:
        CALLS[task](client)
    assert shared_service.worker.seen[-1].task is task


def test_arguments_are_the_fields_of_the_api() -> None:
    assert set(get_args(Task)) == {task.value for task in tasks.Task}
    fields = set().union(*(schema.model_fields for schema in REQUESTS.values()))
    # The client sets how an answer comes.
    assert set(TaskFields.__annotations__) == fields - {"response", "cancel_on_disconnect"}
    inputs = {"prompt", "image", "mask", "class_id", "boxes"}
    assert set(TaskFields.__annotations__) - set(Fields.__annotations__) == inputs


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [
        (Client, AsyncClient),
        (client_module.Job, jobs_module.AsyncJob),
        (client_module.Batch, jobs_module.AsyncBatch),
    ],
)
def test_both_clients_have_the_same_methods(blocking: type, asynchronous: type) -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        public = {name: getattr(kind, name) for name in vars(kind) if not name.startswith("_")}
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in public.items()
            if callable(method) and name != "over"
        }

    assert methods(blocking) == methods(asynchronous)


def test_key_is_sent_and_read_from_the_environment(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(redis_url, ABLE, auth="required", admin_key=ADMIN_KEY) as service:
        with Client(service.url, retries=0) as client, pytest.raises(Unauthorized):
            client.models()
        with Client(service.url, key=ADMIN_KEY) as client:
            assert client.models()[0].name == "tiny"
        monkeypatch.setenv("DARKROOM_API_KEY", f"{ADMIN_KEY}\n")
        with Client(service.url) as client:
            assert len(client.generate("a cat", n=2).images) == 2
            assert {choice.name for choice in client.samplers().samplers} == {"ddim", "euler"}


def test_key_that_no_header_can_hold_is_not_shown() -> None:
    with pytest.raises(ValueError, match=r"key \(its value is not shown\)") as caught:
        Client(key="sécret")
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port"])
def test_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="must be an http or https URL"):
        Client(url)


def test_lost_answer_is_asked_for_again_without_a_second_job(service: Running) -> None:
    losses = Losses(answers=2)
    with Client(service.url, http=httpx.Client(transport=FlakyTransport(losses))) as client:
        client.generate("a cat")
    keys = [request.headers.get("Idempotency-Key") for request in losses.requests[:3]]
    assert len(set(keys)) == 1
    assert len(service.worker.jobs) == 1


def test_lost_answer_to_a_request_without_a_key_is_not_repeated(service: Running) -> None:
    losses = Losses(answers=1)
    with (
        Client(service.url, http=httpx.Client(transport=FlakyTransport(losses))) as client,
        pytest.raises(ServerUnreachable),
    ):
        client.read_recipe(IMAGE)
    assert len(losses.requests) == 1


def test_lost_stream_is_resumed_from_the_last_event(service: Running) -> None:
    losses = Losses(streams=1, on_resume=service.worker.release)
    service.worker.hold_at_step = 2
    service.worker.hold()
    with Client(service.url, http=httpx.Client(transport=FlakyTransport(losses))) as client:
        job = client.submit("txt2img", prompt="a cat")
        seen = [(status.state, status.step, status.steps) for status in job.events()]
    _check_resumed(losses, seen)


async def test_lost_stream_is_resumed_with_asyncio(service: Running) -> None:
    losses = Losses(streams=1, on_resume=service.worker.release)
    service.worker.hold_at_step = 2
    service.worker.hold()
    http = httpx.AsyncClient(transport=AsyncFlakyTransport(losses))
    async with AsyncClient(service.url, http=http) as client:
        job = await client.submit("txt2img", prompt="a cat")
        seen = [(status.state, status.step, status.steps) async for status in job.events()]
    _check_resumed(losses, seen)


def _check_resumed(losses: Losses, seen: list[tuple[JobState, int, int]]) -> None:
    """Check that each further stream began after the last event, and none came twice."""
    first, *others = [one for one in losses.requests if one.url.path.endswith("/events")]
    assert "Last-Event-ID" not in first.headers
    assert others
    assert all(other.headers["Last-Event-ID"] for other in others)
    assert seen[-1][0] is JobState.FINISHED
    assert len(set(seen)) == len(seen)


def test_previews_are_jpeg_files(service: Running) -> None:
    service.worker.hold_at_step = 2
    service.worker.hold()
    previews = []
    with Client(service.url) as client:
        for status in client.submit("txt2img", prompt="a cat", previews=True).events():
            if status.preview is not None:
                previews.append(status.preview)
                service.worker.release()
    assert previews
    assert {preview[:3] for preview in previews} == {b"\xff\xd8\xff"}


def test_job_of_several_images_has_previews_of_each(service: Running) -> None:
    service.worker.hold_at_step = 2
    service.worker.hold()
    seen: list[JobStatus] = []
    with Client(service.url) as client:
        for status in client.submit("txt2img", prompt="a cat", n=3, previews=True).events():
            seen.append(status)
            if status.step == 2:
                service.worker.release()
    held = next(status for status in seen if status.step == 2)
    assert held.previews == {index: preview(2 + index) for index in range(3)}
    assert held.preview == held.previews[0]
    assert not seen[-1].previews


def test_failed_job_raises_its_reason(service: Running) -> None:
    service.worker.error = JobFailedInWorker("out of memory")
    with Client(service.url) as client:
        with pytest.raises(JobFailed, match="out of memory"):
            client.generate("a cat")
        [job] = client.jobs(state=JobState.FAILED)
        service.worker.error = None
        assert len(client.job(job.id).retry().wait().images) == 1


def test_full_queue_is_waited_for(redis_url: str) -> None:
    with running(redis_url, ABLE, max_queue_length=1) as service:
        service.worker.hold()
        losses = Losses()
        http = httpx.Client(transport=_Releasing(losses, service))
        with Client(service.url, http=http) as client:
            client.submit("txt2img", prompt="first")
            client.submit("txt2img", prompt="second")
        submissions = [one for one in losses.requests if one.method == "POST"]
        assert len(submissions) > 2


class _Releasing(FlakyTransport):
    """Lets the worker run after the third request, and makes the client ask soon."""

    def __init__(self, losses: Losses, service: Running) -> None:
        super().__init__(losses)
        self._service = service

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            self._service.worker.release()
            response.headers["Retry-After"] = "0"
        return response


def test_no_server() -> None:
    with Client("http://127.0.0.1:9/studio/", retries=0) as client:
        assert client.url == "http://127.0.0.1:9/studio"
        assert not client.is_reachable()
        with pytest.raises(ServerUnreachable, match="no Darkroom answers at"):
            client.models()


def test_models_are_loaded_by_name(shared_service: Running) -> None:
    with Client(shared_service.url) as client:
        for call in (client.load_model, client.unload_model):
            with pytest.raises(Forbidden, match="DARKROOM_MODEL_CONTROL") as caught:
                call("tiny")
            assert caught.value.kind == "not-enabled"
        with pytest.raises(UnknownModel):
            client.generate("a cat", model="other")
        assert client.request("GET", "/healthz").json() == {"status": "ok"}


def test_service_below_a_path(redis_url: str) -> None:
    with (
        running(redis_url, ABLE, root_path="/studio", auth="off") as service,
        Client(f"{service.url}/studio/") as client,
    ):
        assert client.generate("a cat").image.width == 64
