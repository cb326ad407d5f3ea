"""Open WebUI 0.12: its engines `openai` and `automatic1111`."""

import http.client
import json

import httpx
import pytest

from tests.clients.sequences.front_end import at, basic, bearer, ok
from tests.clients.stack import MODEL, SIDE, Stack
from tests.service.sample_images import gradient, opened, packed


def test_openai_engine_generates(stack: Stack) -> None:
    """Each item is read as `url` first, else as `b64_json`, raw or a data URI."""
    body = {"model": "dall-e-2", "prompt": "a red heart", "n": 1, "size": "256x256"}
    with at(stack.v1, bearer(stack.key)) as client:
        answer = ok(client.post("images/generations", json={**body, "response_format": "b64_json"}))
    (item,) = answer["data"]
    assert "url" not in item
    assert opened(item["b64_json"]).size == (256, 256)


def test_openai_engine_generates_with_another_version(stack: Stack) -> None:
    """Nothing says b64_json for names of GPT models, and a query may name a version of the API."""
    body = {"model": "gpt-image-1.5", "prompt": "a red heart", "n": 1, "size": "auto"}
    with at(stack.v1, bearer(stack.key)) as client:
        url = "images/generations?api-version=2025-04-01"
        (item,) = ok(client.post(url, json={**body, "steps": 2}))["data"]
    assert opened(item["b64_json"]).size == (SIDE, SIDE)


def test_openai_engine_reads_urls_with_its_key(stack: Stack) -> None:
    """A URL of the same origin is fetched with the key."""
    body = {"model": "dall-e-3", "prompt": "a red heart", "n": 1, "size": "256x256"}
    with at(stack.v1, bearer(stack.key)) as client:
        (item,) = ok(client.post("images/generations", json=body))["data"]
        response = client.get(item["url"])
    assert httpx.URL(item["url"]).netloc == httpx.URL(stack.url).netloc
    assert response.headers["content-type"] == "image/png"
    assert opened(response.content).size == (256, 256)


def test_openai_engine_edits(stack: Stack) -> None:
    """All values of the form are text; a list of images has parts named `image[]`."""
    png = packed(gradient(64, 64))
    form = {"model": "gpt-image-1", "prompt": "a red heart", "n": "1", "size": "64x64"}
    with at(stack.v1, bearer(stack.key)) as client:
        one = ok(
            client.post("images/edits", data=form, files={"image": ("image.png", png, "image/png")})
        )
        files = [("image[]", (f"image{i}.png", png, "image/png")) for i in range(2)]
        two = ok(client.post("images/edits", data={**form, "size": "128x64"}, files=files))
    assert opened(one["data"][0]["b64_json"]).size == (64, 64)
    assert opened(two["data"][0]["b64_json"]).size == (128, 64)


def test_webui_engine(stack: Stack) -> None:
    """A model is chosen by sending all options back; the answer needs `images` and `info`."""
    headers = basic(f"admin:{stack.key}")
    with at(f"{stack.url}/sdapi/v1", headers) as client:
        assert client.get("options").is_success  # verify
        models = ok(client.get("sd-models"))
        assert [{"title", "model_name"} <= model.keys() for model in models] == [True]
        options = ok(client.get("options"))
        assert options["sd_model_checkpoint"]
        chosen = {**options, "sd_model_checkpoint": models[0]["title"]}
        assert client.post("options", json=chosen).status_code == httpx.codes.OK
        assert ok(client.get("options"))["sd_model_checkpoint"] == models[0]["title"]
        body = {"prompt": "a red heart", "batch_size": 2, "width": 64, "height": 64}
        more = {"steps": 2, "negative_prompt": "blue", "cfg_scale": 5.0, "scheduler": "Karras"}
        answer = ok(client.post("txt2img", json={**body, **more, "sampler_name": "DPM++ 2M"}))
    assert [opened(image).size for image in answer["images"]] == [(64, 64)] * 2
    assert json.loads(answer["info"])["seed"] >= 0
    assert MODEL in models[0]["title"]


@pytest.mark.parametrize("header", ["Basic ", "Bearer ", "Basic", "Bearer None"])
def test_webui_engine_without_a_password(stack: Stack, header: str) -> None:
    """Without a configured key it sends `Basic ` with nothing after it."""
    statuses = []
    for url in (stack.open_url, stack.url):
        connection = http.client.HTTPConnection(httpx.URL(url).netloc.decode())
        connection.request("GET", "/sdapi/v1/options", headers={"Authorization": header})
        response = connection.getresponse()
        statuses.append(response.status)
        answer = json.loads(response.read())
        connection.close()
    assert statuses == [httpx.codes.OK, httpx.codes.UNAUTHORIZED]
    assert answer == {"detail": "Incorrect username or password"}
    assert response.headers["www-authenticate"].startswith("Basic")


def test_webui_engine_shows_errors(stack: Stack) -> None:
    """The status is not looked at: a failure is known by the missing `images`."""
    with at(f"{stack.url}/sdapi/v1", basic(f"admin:{stack.key}")) as client:
        answer = client.post("txt2img", json={"prompt": "x", "width": 100_000}).json()
    assert "images" not in answer
    assert "100000" in answer["detail"]
