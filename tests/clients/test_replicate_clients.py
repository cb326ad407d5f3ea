"""Client packages of Replicate's API, unpatched."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.clients.clients import Action, Client
from tests.clients.conftest import Ask
from tests.clients.openai_requests import PROMPT, SIDES, generated, images
from tests.clients.processes import ClientError
from tests.clients.replicate_clients import REPLICATE_CLIENTS
from tests.clients.stack import MODEL, Stack
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same
from tests.service.webhooks.receiver import Receiver

NAME = f"darkroom/{MODEL}"
SIZED = {"width": SIDES[0], "height": SIDES[1]}
INPUT = {"prompt": PROMPT, "seed": 7, "num_inference_steps": 3, **SIZED}
IMAGE = in_base64(packed(gradient(*SIDES)))
MASK = in_base64(packed(left_half_white(*SIDES)))
LONG = {"prompt": PROMPT, "num_inference_steps": 150, "width": 512, "height": 512}


def that(action: Action) -> pytest.MarkDecorator:
    """Run a test with every client that has `action`."""
    clients = [client for client in REPLICATE_CLIENTS if action in client.actions]
    return pytest.mark.parametrize("client", clients, ids=[client.name for client in clients])


def read(url: str) -> Any:
    """Return the image at an address, which needs no key."""
    return opened(httpx.get(url, timeout=60).raise_for_status().content)


@that(Action.RUN)
def test_runs_a_model(client: Client, ask: Ask, native: httpx.Client) -> None:
    """The images are those of the native API for the same seed."""
    urls = ask("run", model=NAME, input={**INPUT, "num_outputs": 2})
    assert [httpx.URL(url).path[-6:] for url in urls] == ["/0.png", "/1.png"]
    assert all(map(same, map(read, urls), generated(native, 2, 7, steps=3)))


@that(Action.RUN)
def test_runs_a_version(client: Client, ask: Ask) -> None:
    """The Python client then reads the version's schema."""
    version = ask("model", name=NAME)["version"]["id"]
    assert len(ask("run", model=f"{NAME}:{version}", input=INPUT)) == 1
    assert ask("create_version", version=version, input=INPUT)["status"] == "succeeded"
    assert ask("deploy", model=NAME, input=INPUT)["status"] == "succeeded"


@that(Action.RUN)
def test_waits_longer_than_the_first_answer(client: Client, ask: Ask) -> None:
    """The answer after the shortest wait is `starting`, so the client goes on to poll."""
    wait = (
        {"wait": {"mode": "block", "timeout": 1}} if "node" in client.environment else {"wait": 1}
    )
    assert read(ask("run", model=NAME, input={**LONG, "num_inference_steps": 30}, **wait)[0])


@that(Action.RUN)
def test_creates_and_waits(client: Client, ask: Ask) -> None:
    found = ask("create_and_wait", model=NAME, input=INPUT)
    assert (found["first"], found["status"]) == ("starting", "succeeded")
    assert found["progress"] == [3, 3]
    assert found["input"] == INPUT
    assert read(found["output"][0]).size == SIDES


@that(Action.CANCEL)
def test_cancels(client: Client, ask: Ask) -> None:
    if client.script == "ai_sdk":
        with pytest.raises(ClientError) as raised:
            ask("abort", prompt=PROMPT, model=NAME, n=1, extra={"num_inference_steps": 150})
        assert client.errors["abort"] in raised.value.kinds
        return
    found = ask("cancel", model=NAME, input=LONG)
    assert (found["status"], found["output"]) == ("canceled", None)


@that(Action.LIST)
def test_lists_models_and_predictions(client: Client, ask: Ask, stack: Stack) -> None:
    assert ask("models") == [NAME]
    found = ask("model", name=NAME)
    assert found["latest_version"]["id"] == found["version"]["id"]
    assert (
        "prompt"
        in found["version"]["openapi_schema"]["components"]["schemas"]["Input"]["properties"]
    )
    mine = ask("create", model=NAME, input=INPUT)["id"]
    assert mine in ask("predictions")
    assert mine not in ask("predictions", api_key=stack.other_key)


@that(Action.FILE)
def test_uploads_files_as_inputs(client: Client, ask: Ask, native: httpx.Client) -> None:
    found = ask("files", image=IMAGE)
    assert found["metadata"] == {"a": 1}
    assert found["same"]
    assert found["deleted"]
    sent = {"prompt": PROMPT, "seed": 7, "prompt_strength": 0.5}
    [url] = ask("run", model=NAME, input=sent, images={"image": IMAGE, "mask": MASK})
    body = {"prompt": PROMPT, "seed": 7, "strength": 0.5, "image": IMAGE, "mask": MASK}
    answer = native.post("/v1/inpaint", json=body).raise_for_status().json()
    assert same(read(url), opened(answer["images"][0]["base64"]))
    ask("run", model=NAME, input={**sent, "image": url})  # an output is an input, too


@that(Action.STREAM)
def test_streams(client: Client, ask: Ask) -> None:
    events = ask("stream", model=NAME, input=INPUT)
    assert [name for name, _ in events if name != "logs"] == ["output", "done"]
    assert read(next(data for name, data in events if name == "output")).size == SIDES


@that(Action.WEBHOOK)
def test_validates_webhooks(client: Client, ask: Ask) -> None:
    with Receiver() as receiver:
        asked = {"webhook": receiver.url, "webhook_events_filter": ["start", "completed"]}
        created = ask("create", model=NAME, input=INPUT, **asked)
        calls = [receiver.next()]
        if calls[0].json()["status"] == "processing":  # else it has ended before the first call
            calls.append(receiver.next())
    assert calls[-1].json()["status"] == "succeeded"
    for call in calls:
        assert call.json()["id"] == created["id"]
        assert ask("validate", headers=call.headers, body=call.body.decode()) is True


@that(Action.EDIT)
def test_edits_by_the_ai_sdk(client: Client, ask: Ask) -> None:
    answer = ask("edit", prompt=PROMPT, model=NAME, images=[IMAGE], n=1, extra={"strength": 0.5})
    assert [image.size for image in images(answer)] == [SIDES]


@that(Action.BASE64)
def test_generates_by_the_ai_sdk(client: Client, ask: Ask, native: httpx.Client) -> None:
    """It downloads the images itself, one of each call."""
    extra = {"num_inference_steps": 3}
    size = f"{SIDES[0]}x{SIDES[1]}"
    answer = ask("generate", prompt=PROMPT, model=NAME, size=size, seed=7, n=1, extra=extra)
    assert same(images(answer)[0], generated(native, 1, 7, steps=3)[0])
    many = ask("generate", prompt=PROMPT, model=NAME, aspectRatio="1:2", n=2, extra=extra)
    assert len(many["data"]) == 2


def bad(client: Client, ask: Ask, **changed: Any) -> ClientError:
    """Return the exception of a request for a size that the model cannot generate."""
    asked: dict[str, Any] = {"model": NAME, **changed}
    if client.script == "ai_sdk":
        asked |= {"action": "generate", "prompt": PROMPT, "size": "67x64", "n": 1}
    else:
        asked |= {"action": "run", "input": {**INPUT, "width": 67}}
    with pytest.raises(ClientError) as raised:
        ask(**asked)
    return raised.value


@that(Action.ERROR)
def test_meets_an_error(client: Client, ask: Ask) -> None:
    error = bad(client, ask)
    assert client.errors["bad"] in error.kinds
    assert error.status == httpx.codes.UNPROCESSABLE_ENTITY
    assert "67" in error.message
    assert "multiple of 8" in error.message


@that(Action.REFUSED)
def test_meets_a_refused_key(client: Client, ask: Ask) -> None:
    error = bad(client, ask, api_key="r8_not-a-key")
    assert client.errors["refused"] in error.kinds
    assert error.status == httpx.codes.UNAUTHORIZED
    assert "r8_not-a-key" not in error.message
