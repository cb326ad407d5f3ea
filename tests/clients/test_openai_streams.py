"""Client packages of OpenAI's API, unpatched: streams, and clients that leave."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from PIL import Image

from tests.clients.clients import OPENAI_CLIENTS, Action, Client
from tests.clients.conftest import Ask
from tests.clients.openai_requests import PROMPT, SIDES, SIZE, generated, images, that
from tests.clients.processes import ClientError
from tests.clients.stack import MODEL
from tests.service.sample_images import gradient, in_base64, opened, packed, same

# So many that a busy server sees the job while it runs, and has partial images to send.
MANY = 150
# Requests that take longer than a client waits in these tests (0.1 s), on every machine.
SLOW = {"prompt": PROMPT, "model": MODEL, "size": SIZE, "n": 2, "extra": {"steps": MANY}}
LARGE = {"prompt": PROMPT, "model": MODEL, "size": "1024x1024", "n": 2}


def checked_events(events: list[dict[str, Any]], kind: str, n: int) -> list[Image.Image]:
    """Check the events of a stream; return its last images."""
    partial = [event for event in events if event["type"] == f"{kind}.partial_image"]
    completed = [event for event in events if event["type"] == f"{kind}.completed"]
    assert events == [*partial, *completed]
    assert 1 <= len(partial) <= 3
    assert [event["partial_image_index"] for event in partial] == list(range(len(partial)))
    assert len(completed) == n
    for event in events:
        assert opened(event["b64_json"]).size == tuple(map(int, event["size"].split("x")))
        assert event["output_format"] == "png"
        assert isinstance(event["created_at"], int)
        assert {"quality", "background"} <= event.keys()
    for event in completed:
        usage = event["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert usage["input_tokens_details"].keys() >= {"image_tokens", "text_tokens"}
    return [opened(event["b64_json"]) for event in completed]


@that(Action.STREAM)
def test_streams_partial_images(client: Client, ask: Ask, native: httpx.Client) -> None:
    events = ask(
        "stream",
        prompt=PROMPT,
        model=MODEL,
        size=SIZE,
        n=2,
        partial_images=3,
        extra={"seed": 7, "steps": MANY},
    )
    last = checked_events(events, "image_generation", 2)
    assert all(map(same, last, generated(native, 2, 7, steps=MANY)))


@that(Action.STREAM)
def test_streams_an_edit(client: Client, ask: Ask) -> None:
    events = ask(
        "stream_edit",
        prompt=PROMPT,
        model=MODEL,
        images=[in_base64(packed(gradient(128, 64)))],
        partial_images=2,
        extra={"steps": MANY},
    )
    (last,) = checked_events(events, "image_edit", 1)
    assert last.size == (128, 64)


def assert_serves(ask: Ask) -> None:
    """Check that the next request is answered."""
    answer = ask("generate", prompt=PROMPT, model=MODEL, size=SIZE, n=1)
    assert [image.size for image in images(answer)] == [SIDES]


@that(Action.STREAM)
def test_leaves_a_stream(client: Client, ask: Ask) -> None:
    first = ask("stop_stream", **SLOW, partial_images=3)
    assert first["type"] == "image_generation.partial_image"
    assert_serves(ask)


@that(Action.CANCEL)
def test_cancels(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("abort", **(SLOW if client.sends_extras else LARGE))
    assert client.errors["abort"] in raised.value.kinds
    assert_serves(ask)


TIMING_OUT = [client for client in OPENAI_CLIENTS if {"abort", "time_out"} <= client.errors.keys()]


@pytest.mark.parametrize(
    "client",
    [client for client in TIMING_OUT if Action.CANCEL in client.actions],
    ids=lambda client: client.name,
)
def test_gives_up_after_its_time_limit(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("time_out", **SLOW)
    assert client.errors["time_out"] in raised.value.kinds
    assert_serves(ask)
