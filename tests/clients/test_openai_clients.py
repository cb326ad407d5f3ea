"""Client packages of OpenAI's API, unpatched: models, images of prompts, errors."""

from __future__ import annotations

import base64

import httpx
import pytest

from tests.clients.clients import OPENAI_CLIENTS, Action, Client
from tests.clients.conftest import Ask
from tests.clients.openai_requests import PROMPT, SIDES, SIZE, generated, images, that
from tests.clients.processes import ClientError
from tests.clients.stack import MODEL, Stack
from tests.service.sample_images import opened, same


@that(Action.LIST)
def test_lists_models(client: Client, ask: Ask) -> None:
    assert MODEL in [model["id"] for model in ask("models")]


@pytest.mark.parametrize(
    "client", [c for c in OPENAI_CLIENTS if c.script == "openai_images"], ids=lambda c: c.name
)
def test_retrieves_a_model(client: Client, ask: Ask) -> None:
    found = ask("model", name=MODEL)
    assert (found["id"], found["object"]) == (MODEL, "model")
    assert isinstance(found["created"], int)
    with pytest.raises(ClientError) as raised:
        ask("model", name="owner/no-such-model")  # its slash arrives encoded
    assert client.errors["missing"] in raised.value.kinds


@that(Action.BASE64)
def test_generates_base64(client: Client, ask: Ask, native: httpx.Client) -> None:
    """The images are those of the native API for the same seed."""
    extra = {"extra": {"seed": 7, "steps": 3}} if client.sends_extras else {}
    answer = ask("generate", prompt=PROMPT, model=MODEL, size=SIZE, n=2, **extra)
    assert [image.size for image in images(answer)] == [SIDES, SIDES]
    if client.sends_extras:
        assert all(map(same, images(answer), generated(native, 2, 7, steps=3)))


@that(Action.URL)
def test_generates_urls(client: Client, ask: Ask, keyless: httpx.Client) -> None:
    """Whoever has a URL can read it without a key, until it expires."""
    if client.script == "ai_sdk":
        check_downloads(ask)
        return
    answer = ask("generate", prompt=PROMPT, model="dall-e-2", size="256x256", n=2)
    assert len(answer["data"]) == 2
    for item in answer["data"]:
        url = httpx.URL(item["url"])
        assert (url.host, url.port) == (keyless.base_url.host, keyless.base_url.port)
        assert url.path.endswith(".png")
        response = keyless.get(url).raise_for_status()
        assert response.headers["content-type"] == "image/png"
        assert opened(response.content).size == (256, 256)
        forged = keyless.get(url.copy_merge_params({"signature": "0" * 64}))
        assert forged.status_code == httpx.codes.UNAUTHORIZED


def check_downloads(ask: Ask) -> None:
    """Check that the AI SDK reads URLs itself.

    It refuses private addresses, unless they have the origin of its base URL.
    """
    extra = {"response_format": "url", "steps": 2}
    answer = ask("generate", prompt=PROMPT, model=MODEL, size=SIZE, n=2, extra=extra)
    assert [image.size for image in images(answer)] == [SIDES, SIDES]
    assert {item["mediaType"] for item in answer["data"]} == {"image/png"}


@that(Action.ERROR)
def test_meets_an_error(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("generate", prompt=PROMPT, model=MODEL, size="67x64", n=1)
    error = raised.value
    assert client.errors["bad"] in error.kinds
    assert error.status == httpx.codes.BAD_REQUEST
    assert "67x64" in error.message
    if client.script == "openai_images":
        assert error.param == "size"
        assert error.type == "invalid_request_error"
        assert error.code
        assert error.request_id


@that(Action.REFUSED)
def test_meets_a_refused_key(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("generate", prompt=PROMPT, model=MODEL, size=SIZE, n=1, api_key="sk-not-a-key")
    error = raised.value
    assert client.errors["refused"] in error.kinds
    assert error.status == httpx.codes.UNAUTHORIZED
    if client.script != "litellm_images":
        assert error.code == "invalid_api_key"
    assert "sk-not-a-key" not in error.message


def test_that_base64_is_the_whole_file(stack: Stack, native: httpx.Client) -> None:
    """A data URI is no base64: several clients decode the field as it is."""
    body = {"prompt": PROMPT, "model": MODEL, "size": SIZE}
    answer = native.post("/v1/images/generations", json=body).raise_for_status().json()
    (item,) = answer["data"]
    assert base64.b64decode(item["b64_json"], validate=True).startswith(b"\x89PNG")
