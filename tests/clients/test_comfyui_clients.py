"""Client packages of ComfyUI's API, unpatched, against a running stack."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.clients.clients import COMFYUI_CLIENTS, Action, Client
from tests.clients.conftest import Ask
from tests.clients.processes import ClientError
from tests.clients.stack import MODEL
from tests.service.dialects.comfyui.graphs import Graph, image_to_image, text_to_image
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

SDK, CANVAS, SIMPLIFIED, SD_BACKEND = COMFYUI_CLIENTS
TITLES = {"3": "KSampler", "9": "Save Image", "10": "Load Image"}
SETTINGS = {"seed": 7, "steps": 3, "cfg": 5}
OURS = {
    "prompt": "a red heart",
    "negative_prompt": "blue",
    "sampler": "euler",
    "schedule": "normal",
    "guidance_scale": 5.0,
}


def only(*clients: Client) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("client", clients, ids=[client.name for client in clients])


def titled(graph: Graph) -> Graph:
    """Return a graph with the titles by which some clients find nodes."""
    graph["4"]["inputs"]["ckpt_name"] = MODEL
    for node_id, one in graph.items():
        one["_meta"] = {"title": TITLES.get(node_id, node_id)}
    return graph


def images(answer: dict[str, Any]) -> list[Image.Image]:
    return [opened(file).convert("RGB") for file in answer.get("files") or answer["images"]]


def generated(native: httpx.Client, **params: Any) -> Image.Image:
    """Return the image of the native API."""
    body = {**OURS, "width": 64, "height": 64, "steps": 3, "seed": 7, **params}
    answer = native.post("/v1/txt2img", json=body).raise_for_status().json()
    return opened(answer["images"][0]["base64"])


@only(SDK, CANVAS, SIMPLIFIED)
def test_runs_a_graph(client: Client, ask: Ask, native: httpx.Client) -> None:
    """The pixels are those of the native API."""
    answer = ask("generate", graph=titled(text_to_image(**SETTINGS)))
    assert all(map(same, images(answer), [generated(native)]))
    assert len(images(answer)) == 1
    for value, most in answer.get("progress", []):
        assert 0 <= value <= most == 3


@only(CANVAS)
def test_polls(client: Client, ask: Ask, native: httpx.Client) -> None:
    answer = ask("poll", graph=titled(text_to_image(**SETTINGS)))
    assert all(map(same, images(answer), [generated(native)]))


@only(CANVAS)
def test_its_own_pipe(client: Client, ask: Ask) -> None:
    """The graph of the package, of which this is the shortest use; images come by the socket."""
    prompts = {"model": MODEL, "prompt": "a red heart", "negative": "blue"}
    answer = ask("pipe", **prompts, size=[64, 128], seed=7, steps=3, cfg=5)
    assert [image.size for image in images(answer)] == [(64, 128)]
    assert "url" not in answer["kinds"]


@only(SDK, SIMPLIFIED)
def test_edits_an_image(client: Client, ask: Ask) -> None:
    graph = titled(image_to_image(**SETTINGS, denoise=0.5))
    answer = ask("edit", graph=graph, image=in_base64(packed(gradient(64, 64))))
    [edited] = images(answer)
    assert edited.size == (64, 64)
    assert not same(edited, gradient(64, 64))


@only(SD_BACKEND)
def test_sd_backend_client_generates(client: Client, ask: Ask, native: httpx.Client) -> None:
    settings = {"sd_model_name": MODEL, "sampler": "euler", "scheduler": "normal"}
    prompts = {"prompt": "a red heart", "negative_prompt": "blue"}
    sizes = {"width": 64, "height": 64, "steps": 3, "seed": 7, "cfg_scale": 5.0, "batch_size": 2}
    answer = ask("generate", **settings, **prompts, **sizes)
    expected = [generated(native, seed=seed) for seed in (7, 8)]
    assert all(map(same, images(answer), expected))


@only(SD_BACKEND)
def test_sd_backend_client_edits_where_the_mask_is_white(client: Client, ask: Ask) -> None:
    image, mask = gradient(128, 128), left_half_white(128, 128)
    params = {"sd_model_name": MODEL, "prompt": "a red heart", "steps": 4, "mask_blur": 0}
    size = {"width": 128, "height": 128, "sampler": "euler", "scheduler": "normal"}
    files = {"image": in_base64(packed(image)), "mask": in_base64(packed(mask))}
    answer = ask("edit", **files, **params, **size)
    before, after = np.asarray(image), np.asarray(images(answer)[0])
    assert np.array_equal(before[:, 72:], after[:, 72:])
    assert not np.array_equal(before[:, :56], after[:, :56])


@only(*(client for client in COMFYUI_CLIENTS if Action.LIST in client.actions))
def test_reads_lists(client: Client, ask: Ask) -> None:
    found = ask("lists")
    models = found.get("models") or found["checkpoints"]
    assert models == [MODEL]
    samplers = found.get("samplers", ["euler"])
    names = samplers["sampler"][0] if isinstance(samplers, dict) else samplers
    assert "euler" in names


@only(SDK)
def test_cancels(client: Client, ask: Ask) -> None:
    graph = titled(text_to_image(seed=7, steps=150))
    graph["5"]["inputs"] |= {"width": 256, "height": 256, "batch_size": 4}
    with pytest.raises(ClientError) as raised:
        ask("cancel", graph=graph)
    assert client.errors["abort"] in raised.value.kinds


@only(SD_BACKEND)
def test_sd_backend_client_cancels(client: Client, ask: Ask) -> None:
    size = {"width": 256, "height": 256, "batch_size": 4, "steps": 150}
    names = {"sampler": "euler", "scheduler": "normal", "sd_model_name": MODEL}
    with pytest.raises(ClientError) as raised:
        ask("cancel", prompt="a red heart", **size, **names)
    assert client.errors["abort"] in raised.value.kinds


@only(SDK, CANVAS, SIMPLIFIED)
def test_meets_an_error(client: Client, ask: Ask) -> None:
    graph = titled(text_to_image(**SETTINGS))
    graph["3"]["inputs"]["steps"] = 100_000
    with pytest.raises(ClientError) as raised:
        ask("generate", graph=graph)
    assert client.errors["bad"] in raised.value.kinds


@only(SD_BACKEND)
def test_sd_backend_client_meets_an_error(client: Client, ask: Ask) -> None:
    names = {"sampler": "euler", "scheduler": "normal", "sd_model_name": MODEL}
    with pytest.raises(ClientError) as raised:
        ask("generate", prompt="a red heart", width=4096, height=4096, **names)
    assert client.errors["bad"] in raised.value.kinds
    assert "4096" in raised.value.message
