"""Streams of previews and images."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi.sse import ServerSentEvent

from protocol.errors import JobFailed
from service.dialects.event_stream import encoded
from tests.service.conftest import Running
from tests.service.dialects.openai.asking import PATH
from tests.service.sample_images import gradient, opened, packed

Event = tuple[str, dict[str, Any]]
COMMON = {"type", "b64_json", "created_at", "size", "quality", "background", "output_format"}


@contextmanager
def stream(service: Running, **fields: object) -> Iterator[httpx.Response]:
    body = {"prompt": "a cat", "stream": True, **fields}
    with service.client.stream("POST", PATH, json=body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield response


@contextmanager
def held_stream(service: Running) -> Iterator[Iterator[Event]]:
    """Yield the events of a stream after its first preview, while its job is held."""
    service.worker.hold_at_step = 2
    service.worker.hold()
    try:
        with stream(service, partial_images=1) as response:
            found = events(response)
            assert next(found)[0] == "image_generation.partial_image"
            yield found
    finally:
        service.worker.release()


def events(response: httpx.Response) -> Iterator[Event]:
    """Yield name and data of each event, as the standard says they are parsed."""
    name, data = "", ""
    for line in response.iter_lines():
        field, _, value = line.partition(":")
        match field:
            case "event":
                name = value.strip()
            case "data":
                data += value.strip()
            case "" if data:
                yield name, json.loads(data)
                name, data = "", ""


def all_events(service: Running, **fields: object) -> list[Event]:
    with stream(service, **fields) as response:
        return list(events(response))


def grey(event: dict[str, Any]) -> int:
    """Return the step whose preview an event has: the fake worker's grey tells it."""
    level = opened(event["b64_json"]).convert("L").getpixel((0, 0))
    assert isinstance(level, int | float)
    return round(level / 16)


def test_a_stream_without_previews_is_one_event(openai: Running) -> None:
    ((name, data),) = all_events(openai, seed=7, quality="high")
    own = openai.client.post("/v1/txt2img", json={"prompt": "a cat", "seed": 7}).json()
    assert name == data["type"] == "image_generation.completed"
    assert data.keys() == COMMON | {"usage"}
    assert data["b64_json"] == own["images"][0]["base64"]
    assert (data["size"], data["quality"], data["background"]) == ("64x64", "high", "auto")
    assert data["output_format"] == "png"
    assert data["usage"]["input_tokens_details"] == {"image_tokens": 0, "text_tokens": 2}
    assert not openai.worker.seen[-2].previews


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_previews_come_while_the_image_is_generated(openai: Running, output_format: str) -> None:
    worker = openai.worker
    worker.hold_at_step = 2  # of 4: half of the steps
    worker.hold()
    fields = {"partial_images": 1, "output_format": output_format, "size": "128x64"}
    with stream(openai, **fields) as response:
        found = events(response)
        name, data = next(found)
        assert name == data["type"] == "image_generation.partial_image"
        assert data.keys() == COMMON | {"partial_image_index"}
        assert data["partial_image_index"] == 0
        assert data["output_format"] == output_format
        assert data["size"] == "128x64"
        preview = opened(data["b64_json"])
        assert (preview.format, preview.size) == (output_format.upper(), (128, 64))
        assert grey(data) == 2
        worker.release()
        assert [name for name, _ in found] == ["image_generation.completed"]


def test_previews_are_numbered_and_never_more_than_asked_for(openai: Running) -> None:
    for wanted in (1, 2, 3):
        found = all_events(openai, partial_images=wanted, steps=12)
        *partial, completed = found
        assert completed[0] == "image_generation.completed"
        assert 1 <= len(partial) <= wanted
        assert [data["partial_image_index"] for _, data in partial] == list(range(len(partial)))
        steps = [grey(data) for _, data in partial]
        assert steps == sorted(set(steps))


def test_an_image_that_is_ready_at_once_still_has_its_last_preview(openai: Running) -> None:
    (name, data), (last, _) = all_events(openai, partial_images=3, steps=1)
    assert (name, data["partial_image_index"]) == ("image_generation.partial_image", 0)
    assert last == "image_generation.completed"


def test_several_images_are_several_events(openai: Running) -> None:
    found = all_events(openai, n=3, seed=5)
    assert [name for name, _ in found] == ["image_generation.completed"] * 3
    assert len({data["b64_json"] for _, data in found}) == 3
    assert sum(data["usage"]["input_tokens"] for _, data in found) == 2


def test_edits_have_their_own_events(openai: Running) -> None:
    fields = {"prompt": "a cat", "stream": "true", "partial_images": "1"}
    files = {"image": packed(gradient(64, 48))}
    with openai.client.stream("POST", "/v1/images/edits", data=fields, files=files) as response:
        names = {name: data["size"] for name, data in events(response)}
    assert names == {"image_edit.partial_image": "64x48", "image_edit.completed": "64x48"}


def test_an_error_in_a_stream(openai: Running) -> None:
    openai.worker.error = JobFailed("the worker ran out of memory")
    try:
        ((name, data),) = all_events(openai)
    finally:
        openai.worker.error = None
    assert name == "error"
    assert data["error"]["type"] == "server_error"
    assert "out of memory" in data["error"]["message"]


def test_a_cancelled_job_ends_its_stream_with_an_error(openai: Running) -> None:
    with held_stream(openai) as found:
        openai.client.delete(f"/v1/jobs/{openai.worker.jobs[-1]}")
        ((name, data),) = found
    assert (name, data["error"]["code"]) == ("error", "job_cancelled")


def test_what_is_wrong_is_said_before_the_stream_begins(openai: Running) -> None:
    response = openai.client.post(PATH, json={"prompt": "a cat", "stream": True, "n": 0})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "n"


def test_a_client_that_leaves_does_not_stop_its_job(openai: Running) -> None:
    with held_stream(openai):
        pass
    job = openai.worker.jobs[-1]
    with openai.client.stream("GET", f"/v1/jobs/{job}/events") as response:
        *_, (last, _) = events(response)
    assert last == "finished"


async def test_a_comment_keeps_a_silent_stream_open() -> None:
    heard = asyncio.Event()

    async def source() -> AsyncGenerator[ServerSentEvent]:
        await heard.wait()
        yield ServerSentEvent(event="done", raw_data="{}")

    sent = []
    async for data in encoded(source(), silence_s=0.001):
        sent.append(data)
        heard.set()
    assert sent[0] == b": ping\n\n"
    assert sent[-1] == b"event: done\ndata: {}\n\n"
