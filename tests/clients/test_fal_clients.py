"""Client packages of fal, unpatched: run, queue, stream, edits, errors."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.clients.clients import Action, Client
from tests.clients.conftest import Ask, Start
from tests.clients.inference_clients import FAL_CLIENTS
from tests.clients.openai_requests import PROMPT, SIDES, SIZE, generated
from tests.clients.processes import ClientError
from tests.clients.stack import MODEL, Stack
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

APP = f"darkroom/{MODEL}"
ASKED = {"seed": 7, "num_inference_steps": 3}
SLOW = {"num_inference_steps": 150, "num_images": 4, "image_size": {"width": 512, "height": 512}}
IMAGE, MASK = gradient(128, 128), left_half_white(128, 128)
Generate = Any


def that(action: Action) -> pytest.MarkDecorator:
    """Run a test with every client that has `action`."""
    clients = [client for client in FAL_CLIENTS if action in client.actions]
    return pytest.mark.parametrize("client", clients, ids=[client.name for client in clients])


def uri(image: Image.Image) -> str:
    return f"data:image/png;base64,{in_base64(packed(image))}"


@pytest.fixture
def ask(client: Client, start: Start, stack: Stack) -> Ask:
    """Return what calls an action: the Python package by https, as it has no other way."""
    if client.script == "ai_sdk":
        return partial(start(client), url=stack.url, api_key=stack.key, model=APP)
    url = stack.https_url if client.environment.startswith("python") else stack.url
    certificate = str(stack.certificate)
    return partial(start(client), url=url, api_key=stack.key, app=APP, certificate=certificate)


@pytest.fixture
def generate(client: Client, ask: Ask, stack: Stack) -> Generate:
    """Return what generates images and returns them, whatever the client calls its arguments."""

    def of_ai_sdk(**changed: Any) -> list[Image.Image]:
        arguments = {"prompt": PROMPT, "size": SIZE, "n": 1, "seed": 7, **changed}
        extra = {"numInferenceSteps": 3, **arguments.pop("extra", {})}
        action = "edit" if "images" in arguments else "generate"
        return [opened(one["b64_json"]) for one in ask(action, extra=extra, **arguments)["data"]]

    def of_fal(**changed: Any) -> list[Image.Image]:
        size = {"width": SIDES[0], "height": SIDES[1]}
        answer = ask("generate", **{"prompt": PROMPT, "image_size": size, **ASKED, **changed})
        return images(answer, stack)

    return of_ai_sdk if client.script == "ai_sdk" else of_fal


def images(result: dict[str, Any], stack: Stack) -> list[Image.Image]:
    """Return the images of a result, read without a key."""
    found = []
    for image in result["images"]:
        if image["url"].startswith("data:"):
            found.append(opened(image["url"].partition(",")[2]))
        else:
            url = image["url"].replace(stack.https_url, stack.url)
            found.append(opened(httpx.get(url, timeout=60).raise_for_status().content))
    return found


@that(Action.URL)
def test_generates(client: Client, generate: Generate, native: httpx.Client) -> None:
    """The images are those of the native API for the same seed."""
    [expected] = generated(native, 1, 7, steps=3)
    [image] = generate()
    assert same(image, expected)


@that(Action.BASE64)
def test_generates_data_uris(client: Client, ask: Ask, stack: Stack, native: httpx.Client) -> None:
    size = {"width": SIDES[0], "height": SIDES[1]}
    answer = ask("generate", prompt=PROMPT, image_size=size, num_images=2, sync_mode=True, **ASKED)
    assert all(image["url"].startswith("data:image/png;base64,") for image in answer["images"])
    assert all(map(same, images(answer, stack), generated(native, 2, 7, steps=3)))
    assert answer.get("requestId", "x"), "of the npm package, from a header"


@that(Action.QUEUE)
def test_queues(client: Client, ask: Ask, stack: Stack, native: httpx.Client) -> None:
    size = {"width": SIDES[0], "height": SIDES[1]}
    found = ask("queue", prompt=PROMPT, image_size=size, **ASKED)
    assert found["states"][-1].upper() == found["state"].upper() == "COMPLETED"
    assert found["seconds"] > 0
    assert found["logs"][-1].startswith("100%|")
    [expected] = generated(native, 1, 7, steps=3)
    for result in (found["result"], found["again"]):
        assert (result["seed"], result["prompt"]) == (7, PROMPT)
        assert same(images(result, stack)[0], expected)
    [image] = images(ask("subscribe", prompt=PROMPT, image_size=size, **ASKED), stack)
    assert same(image, expected)


@that(Action.STREAM)
def test_streams(client: Client, ask: Ask, stack: Stack) -> None:
    *partial_results, result = ask("stream", prompt=PROMPT, num_inference_steps=20, seed=7)
    assert images(result, stack)[0].size == (512, 512)
    for event in partial_results:
        assert event["images"][0]["url"].startswith("data:image/jpeg;base64,")
        assert 0 <= event["step"] <= event["steps"]


@that(Action.EDIT)
def test_edits(client: Client, ask: Ask, generate: Generate, native: httpx.Client) -> None:
    body = {"prompt": PROMPT, "image": in_base64(packed(IMAGE)), "seed": 7, "steps": 3}
    answer = native.post("/v1/img2img", json={**body, "strength": 0.5}).raise_for_status().json()
    if client.script == "ai_sdk":
        changed: dict[str, Any] = {"images": [in_base64(packed(IMAGE))], "size": "128x128"}
        [image] = generate(**changed, extra={"strength": 0.5})
    else:
        [image] = generate(image_url=uri(IMAGE), strength=0.5, image_size=None)
    assert same(image, opened(answer["images"][0]["base64"]))


@that(Action.MASK)
def test_edits_where_the_mask_is_white(client: Client, generate: Generate) -> None:
    if client.script == "ai_sdk":
        files = {"images": [in_base64(packed(IMAGE))], "mask": in_base64(packed(MASK))}
        [image] = generate(**files, size="128x128")
    else:
        [image] = generate(image_url=uri(IMAGE), mask_url=uri(MASK), image_size=None)
    before, after = np.asarray(IMAGE), np.asarray(image.convert("RGB"))
    assert np.array_equal(before[:, 72:], after[:, 72:])
    assert not np.array_equal(before[:, :56], after[:, :56])


@that(Action.CANCEL)
def test_cancels(client: Client, ask: Ask, generate: Generate) -> None:
    if client.script == "ai_sdk":
        extra = {"numInferenceSteps": 50}  # the most that the package sends
        with pytest.raises(ClientError) as raised:
            ask("abort", prompt=PROMPT, size="1024x1024", n=1, extra=extra)
        assert client.errors["abort"] in raised.value.kinds
    else:
        assert ask("cancel", prompt=PROMPT, **SLOW) == {"error_type": "job_cancelled"}
    assert len(generate()) == 1


@that(Action.ERROR)
def test_meets_an_error(client: Client, generate: Generate) -> None:
    ai_sdk = client.script == "ai_sdk"
    size = {"size": "67x64"} if ai_sdk else {"image_size": {"width": 67, "height": 64}}
    with pytest.raises(ClientError) as raised:
        generate(**size)
    error = raised.value
    assert client.errors["bad"] in error.kinds
    assert error.status == httpx.codes.UNPROCESSABLE_ENTITY
    assert "67" in error.message


@that(Action.REFUSED)
def test_meets_a_refused_key(client: Client, generate: Generate) -> None:
    with pytest.raises(ClientError) as raised:
        generate(api_key="not-a-key")
    error = raised.value
    assert client.errors["refused"] in error.kinds
    assert error.status == httpx.codes.UNAUTHORIZED
    assert "not-a-key" not in error.message
