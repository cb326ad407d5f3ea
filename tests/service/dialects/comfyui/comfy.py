"""A service that speaks ComfyUI's API, and what its clients do."""

import json
import time
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.service.dialects.comfyui.graphs import Graph
from tests.service.sample_images import gradient, packed

SOCKET = "a-socket"
WAIT_S = 30.0


def queue(client: httpx.Client, graph: Graph, **fields: Any) -> str:
    """Queue a graph that must be accepted and return its id."""
    response = client.post("/prompt", json={"prompt": graph, **fields})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["node_errors"] == {}
    return str(answer["prompt_id"])


def ended(client: httpx.Client, prompt_id: str) -> dict[str, Any]:
    """Return the history of a prompt when it has ended."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        answer = client.get(f"/history/{prompt_id}")
        assert answer.status_code == 200, answer.text
        if found := answer.json():
            [(name, item)] = found.items()
            assert name == prompt_id
            return dict(item)
        time.sleep(0.01)
    raise AssertionError(f"{prompt_id} has not ended")


def files(client: httpx.Client, item: dict[str, Any], node_id: str = "9") -> list[bytes]:
    """Return the files of an output node."""
    found = []
    for image in item["outputs"][node_id]["images"]:
        response = client.get("/view", params=image)
        assert response.status_code == 200, response.text
        found.append(response.content)
    return found


def upload(client: httpx.Client, name: str = "cat.png", data: bytes = b"", **form: str) -> Any:
    """Upload an image and return the answer."""
    data = data or packed(gradient())
    response = client.post("/upload/image", data=form, files={"image": (name, data)})
    assert response.status_code == 200, response.text
    return response.json()


def socket(url: str, socket_id: str = SOCKET, **headers: str) -> ClientConnection:
    """Connect a WebSocket."""
    address = f"{url.replace('http', 'ws')}/ws?clientId={socket_id}"
    return connect(address, additional_headers=headers)


def until_done(sock: ClientConnection, prompt_id: str) -> list[Any]:
    """Return all messages until nothing of a prompt is executed any more; frames are bytes."""
    messages: list[Any] = []
    while True:
        message = sock.recv(WAIT_S)
        messages.append(message if isinstance(message, bytes) else json.loads(message))
        match messages[-1]:
            case {"type": "executing", "data": {"node": None, "prompt_id": found}}:
                if found == prompt_id:
                    return messages


def names(messages: list[Any]) -> list[str]:
    """Return the types of messages."""
    return ["frame" if isinstance(one, bytes) else one["type"] for one in messages]
