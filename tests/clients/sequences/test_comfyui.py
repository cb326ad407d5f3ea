"""ComfyUI's own example scripts, and the front ends that speak its API, request by request."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
import uuid
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.clients.sequences.front_end import TEXT, at, basic, bearer, ok, said_to_be
from tests.clients.stack import MODEL, Stack
from tests.service.dialects.comfyui.graphs import Graph, image_to_image, node, text_to_image
from tests.service.sample_images import gradient, opened, packed

LIMIT_S = 120.0


def graph(**sampler: Any) -> Graph:
    """Return the graph of ComfyUI's start page for the model of the stack."""
    found = text_to_image(**{"steps": 2, **sampler})
    found["4"]["inputs"]["ckpt_name"] = MODEL
    return found


def socket(url: str, client_id: str, headers: dict[str, str]) -> ClientConnection:
    address = f"{url.replace('http', 'ws')}/ws?clientId={client_id}"
    return connect(address, additional_headers=headers)


class Script:
    """The functions of ComfyUI's script_examples, which use urllib and a WebSocket."""

    def __init__(self, stack: Stack) -> None:
        self.url = stack.open_url  # they know no keys
        self.client_id = str(uuid.uuid4())

    def queue_prompt(self, prompt: Graph, **more: str) -> dict[str, Any]:
        data = json.dumps({"prompt": prompt, **more}).encode("utf-8")
        request = urllib.request.Request(f"{self.url}/prompt", data=data)
        return self._json(request)

    def get_history(self, prompt_id: str) -> dict[str, Any]:
        return self._json(f"{self.url}/history/{prompt_id}")

    def get_image(self, filename: str, subfolder: str, folder_type: str) -> bytes:
        place = {"filename": filename, "subfolder": subfolder, "type": folder_type}
        with urllib.request.urlopen(f"{self.url}/view?{urllib.parse.urlencode(place)}") as answer:
            return bytes(answer.read())

    def _json(self, request: Any) -> dict[str, Any]:
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found


def test_basic_api_example(stack: Stack) -> None:
    """It queues a prompt, with the content type that urllib gives every body."""
    answer = Script(stack).queue_prompt(graph())
    assert answer.keys() == {"prompt_id", "number", "node_errors"}


def test_websockets_api_example(stack: Stack) -> None:
    """It connects, queues a prompt, waits until nothing is executed, and reads the history."""
    script = Script(stack)
    with socket(script.url, script.client_id, {}) as ws:
        sent = script.queue_prompt(graph(), client_id=script.client_id)
        prompt_id = sent["prompt_id"]
        while True:
            out = ws.recv(LIMIT_S)
            if isinstance(out, str):
                message = json.loads(out)
                if message["type"] == "executing":
                    data = message["data"]
                    if data["node"] is None and data["prompt_id"] == prompt_id:
                        break
        history = script.get_history(prompt_id)[prompt_id]
        images = [
            script.get_image(image["filename"], image["subfolder"], image["type"])
            for output in history["outputs"].values()
            for image in output.get("images", [])
        ]
    assert [opened(image).size for image in images] == [(64, 64)]


def test_websockets_api_example_ws_images(stack: Stack) -> None:
    """It takes binary frames while the node SaveImageWebsocket is executed, without their heads."""
    script, node_id = Script(stack), "save_image_websocket_node"
    prompt = graph()
    del prompt["9"]
    prompt[node_id] = node("SaveImageWebsocket", images=["8", 0])
    images: dict[str, list[bytes]] = {}
    with socket(script.url, script.client_id, {}) as ws:
        prompt_id = script.queue_prompt(prompt, client_id=script.client_id)["prompt_id"]
        current_node = ""
        while True:
            out = ws.recv(LIMIT_S)
            if isinstance(out, str):
                message = json.loads(out)
                if message["type"] == "executing" and message["data"]["prompt_id"] == prompt_id:
                    if message["data"]["node"] is None:
                        break
                    current_node = message["data"]["node"]
            elif current_node == node_id:
                images.setdefault(current_node, []).append(out[8:])
    assert [opened(image).size for image in images[node_id]] == [(64, 64)]


@pytest.mark.parametrize("keys", [True, False], ids=["with a key", "without keys"])
def test_open_webui(stack: Stack, keys: bool) -> None:
    """It generates and edits: routes below /api, a socket before the prompt, files by its key."""
    url, headers = (stack.url, bearer(stack.key)) if keys else (stack.open_url, {})
    with at(url, headers) as client:
        info = ok(client.get("/object_info"))  # verify, and the list of models
        assert info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] == [MODEL]
        edited = image_to_image(steps=2)
        edited["4"]["inputs"]["ckpt_name"] = MODEL
        uploaded = ok(
            client.post(
                "/api/upload/image",
                files={"image": ("image.png", packed(gradient(64, 64)), "image/png")},
                data={"type": "input"},
            )
        )
        edited["10"]["inputs"]["image"] = uploaded["name"]
        for workflow, batch in ((graph(seed=2**50 - 1), 2), (edited, 1)):
            if batch > 1:
                workflow["5"]["inputs"]["batch_size"] = batch
            assert len(_open_webui_images(url, client, headers, workflow)) == batch


def _open_webui_images(
    url: str, client: Any, headers: dict[str, str], workflow: Graph
) -> list[bytes]:
    client_id = str(uuid.uuid4())
    with socket(url, client_id, headers) as ws:
        body = json.dumps({"prompt": workflow, "client_id": client_id}).encode()
        prompt_id = ok(client.post("/prompt", content=body))["prompt_id"]
        while True:
            out = ws.recv(LIMIT_S)
            if not isinstance(out, str):
                continue
            message = json.loads(out)
            data = message["data"]
            done = message["type"] == "executing" and data["node"] is None
            if done and data["prompt_id"] == prompt_id:
                break
        history = ok(client.get(f"/history/{prompt_id}"))[prompt_id]
    found = []
    for node_id, output in history["outputs"].items():
        assert workflow[node_id]["class_type"] in ("SaveImage", "PreviewImage")
        for image in output["images"]:
            found.append(client.get("/view", params=image).raise_for_status().content)
    return [image for image in found if opened(image).size == (64, 64)]


@pytest.mark.parametrize("keys", [True, False], ids=["with a key", "without keys"])
def test_sillytavern(stack: Stack, keys: bool) -> None:
    """It reads lists, sends text without an id of its own, and reads the whole history."""
    url, headers = (stack.url, basic(f"user:{stack.key}")) if keys else (stack.open_url, {})
    with at(url, headers) as client:
        assert client.get("/system_stats").is_success  # ping
        info = ok(client.get("/object_info"))
        for class_type, name in (
            *(("KSampler", "sampler_name"), ("KSampler", "scheduler")),
            *(("VAELoader", "vae_name"), ("CheckpointLoaderSimple", "ckpt_name")),
            ("UNETLoader", "unet_name"),
        ):
            assert isinstance(info[class_type]["input"]["required"][name][0], list)
        prompt_id = ok(client.post("/prompt", **said_to_be(TEXT, {"prompt": graph()})))["prompt_id"]
        while prompt_id not in (history := ok(client.get("/history"))):
            pass
        item = history[prompt_id]
        assert item["status"]["status_str"] == "success"
        [image] = [one for output in item["outputs"].values() for one in output["images"]]
        file = client.get("/view", params=image).raise_for_status()
        assert opened(file.content).size == (64, 64)
        assert client.post("/interrupt").is_success  # when the browser is closed


def test_sillytavern_shows_errors(stack: Stack) -> None:
    """It shows `error.message`, which has the reason."""
    with at(stack.url, basic(f"user:{stack.key}")) as client:
        body = {"prompt": graph(sampler_name="dpm_adaptive")}
        response = client.post("/prompt", **said_to_be(TEXT, body))
    assert response.status_code == 400
    assert "dpm_adaptive" in response.json()["error"]["message"]
