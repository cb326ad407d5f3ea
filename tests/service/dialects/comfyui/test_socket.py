"""The WebSocket: the order of its messages, previews, several API processes, late connections."""

import asyncio
import io
import json
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from protocol.errors import JobFailed
from protocol.queue.job import TERMINAL
from service.app import create_app
from service.auth.api_keys import User
from service.dialects.comfyui import websocket
from service.dialects.comfyui.stored import ACTIVE, Prompt, prompts_of
from service.routes.deps import Services
from tests.service.conftest import HOOKS, Running, running, serving, settings_for
from tests.service.dialects.comfyui.comfy import (
    SOCKET,
    WAIT_S,
    ended,
    files,
    names,
    queue,
    socket,
    until_done,
)
from tests.service.dialects.comfyui.graphs import COMFY_CARD, text_to_image
from tests.service.fake_worker import preview
from tests.service.sample_images import opened, same
from tests.support.redis_server import RedisServer


@pytest.fixture
def held(comfy: Running) -> Iterator[Running]:
    """Return a service whose worker begins no job until it is released."""
    comfy.worker.hold()
    try:
        yield comfy
    finally:
        comfy.worker.release()


def first(sock: ClientConnection) -> dict[str, Any]:
    message = json.loads(sock.recv(WAIT_S))
    assert isinstance(message, dict)
    return message


def of(messages: list[Any], kind: str) -> list[dict[str, Any]]:
    return [one["data"] for one in messages if not isinstance(one, bytes) and one["type"] == kind]


def test_the_order_of_a_run(held: Running) -> None:
    with socket(held.url) as sock:
        status = first(sock)
        assert status == {
            "type": "status",
            "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": SOCKET},
        }
        prompt_id = queue(held.client, text_to_image(), client_id=SOCKET)
        assert first(sock)["data"]["status"]["exec_info"]["queue_remaining"] == 1
        held.worker.release()
        messages = until_done(sock, prompt_id)
        # All that a client may wait for is true when the last message arrives.
        assert held.client.get(f"/history/{prompt_id}").json()[prompt_id]["outputs"]["9"]
        assert held.client.get("/prompt").json() == {"exec_info": {"queue_remaining": 0}}
    kinds = [kind for kind in names(messages) if kind != "status"]
    executing = [data["node"] for data in of(messages, "executing")]
    assert kinds[:2] == ["execution_start", "execution_cached"]
    assert kinds[-2:] == ["execution_success", "executing"]
    assert names(messages)[-2:] == ["status", "executing"]
    assert set(executing) == {*text_to_image(), None}
    assert executing.index("3") < executing.index("8") < executing.index("9")
    [executed] = of(messages, "executed")
    assert executed["node"] == "9"
    item = ended(held.client, prompt_id)
    assert executed["output"] == item["outputs"]["9"]
    assert [name for name, _ in item["status"]["messages"]] == [
        *("execution_start", "execution_cached", "execution_success")
    ]
    assert all(data["prompt_id"] == prompt_id for data in of(messages, "progress"))
    assert all(data["node"] == "3" and data["max"] == 4 for data in of(messages, "progress"))


def test_progress(comfy: Running) -> None:
    """A running prompt is told of anew when its client connects."""
    comfy.worker.hold_at_step = 2
    comfy.worker.hold()
    try:
        prompt_id = queue(comfy.client, text_to_image(), client_id=SOCKET)
        with socket(comfy.url) as sock:
            assert first(sock)["data"]["status"]["exec_info"]["queue_remaining"] == 1
            while (message := first(sock))["type"] != "progress" or message["data"]["value"] < 2:
                pass
            assert message["data"] == {"value": 2, "max": 4, "prompt_id": prompt_id, "node": "3"}
            comfy.worker.release()
            assert "execution_success" in names(until_done(sock, prompt_id))
    finally:
        comfy.worker.release()


@pytest.mark.parametrize("metadata", [False, True])
def test_previews_only_if_they_are_wanted(comfy: Running, metadata: bool) -> None:
    with socket(comfy.url) as sock:
        first(sock)
        if metadata:
            flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
            sock.send(json.dumps(flags))
            answer = first(sock)
            assert answer["type"] == "feature_flags"
            assert answer["data"]["supports_preview_metadata"] is True
        prompt_id = queue(comfy.client, text_to_image(), client_id=SOCKET)
        assert "frame" not in names(until_done(sock, prompt_id))
        comfy.worker.hold_at_step = 3
        comfy.worker.hold()
        extra = {"preview_method": "latent2rgb"}
        prompt_id = queue(comfy.client, text_to_image(), client_id=SOCKET, extra_data=extra)
        while not isinstance(frame := sock.recv(WAIT_S), bytes):
            pass
        comfy.worker.release()
        until_done(sock, prompt_id)
    event, second = struct.unpack(">II", frame[:8])
    if metadata:
        about = json.loads(frame[8 : 8 + second])
        assert (event, about["prompt_id"], about["node_id"]) == (4, prompt_id, "3")
        assert frame[8 + second :] in map(preview, range(5))
    else:
        assert (event, second) == (1, 1)
        assert frame[8:] in map(preview, range(5))


def test_images_by_the_socket(comfy: Running) -> None:
    """They come while their node is executed, and are not in the history."""
    graph = text_to_image()
    graph["5"]["inputs"]["batch_size"] = 2
    graph["30"] = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["8", 0]}}
    with socket(comfy.url) as sock:
        first(sock)
        prompt_id = queue(comfy.client, graph, client_id=SOCKET)
        messages = until_done(sock, prompt_id)
    node, found = None, []
    for message in messages:
        if isinstance(message, bytes):
            assert node == "30"
            assert struct.unpack(">II", message[:8]) == (1, 2)
            found.append(Image.open(io.BytesIO(message[8:])))
        elif message["type"] == "executing":
            node = message["data"]["node"]
    item = ended(comfy.client, prompt_id)
    assert item["outputs"].keys() == {"9"}
    kept = map(opened, files(comfy.client, item))
    assert all(same(one, other) for one, other in zip(found, kept, strict=True))


def test_errors_and_interruptions(comfy: Running) -> None:
    with socket(comfy.url) as sock:
        first(sock)
        comfy.worker.error = JobFailed("out of memory")
        prompt_id = queue(comfy.client, text_to_image(), client_id=SOCKET)
        messages = until_done(sock, prompt_id)
        comfy.worker.error = None
        [error] = of(messages, "execution_error")
        assert (error["node_id"], error["node_type"]) == ("3", "KSampler")
        assert "out of memory" in error["exception_message"]
        assert "execution_success" not in names(messages)

        comfy.worker.hold_at_step = 1
        comfy.worker.hold()
        prompt_id = queue(comfy.client, text_to_image(), client_id=SOCKET)
        while first(sock)["type"] != "progress":
            pass
        assert comfy.client.post("/interrupt").content == b""
        messages = until_done(sock, prompt_id)
        comfy.worker.release()
    assert [one["node_id"] for one in of(messages, "execution_interrupted")] == ["3"]
    item = ended(comfy.client, prompt_id)
    assert item["status"]["status_str"] == "error"


@pytest.mark.parametrize("connected", [False, True], ids=["when it connects", "later"])
def test_prompt_that_ends_while_lists_are_read_is_told_of_once(
    held: Running, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    """It is among the active prompts, which are read first, and among the ended ones."""
    lists: list[int] = []

    async def ending(services: Services, user: User, states: Any, limit: int) -> list[Prompt]:
        if states is TERMINAL:
            while await prompts_of(services, user, ACTIVE, limit):
                held.worker.release()
                await asyncio.sleep(0.01)
            lists.append(limit)
        return await prompts_of(services, user, states, limit)

    monkeypatch.setattr(websocket, "prompts_of", ending)
    if not connected:
        prompt_id = queue(held.client, text_to_image(), client_id=SOCKET)
    with socket(held.url) as sock:
        if connected:
            while len(lists) < 2:  # it waits for a notice
                time.sleep(0.01)
            prompt_id = queue(held.client, text_to_image(), client_id=SOCKET)
        messages = until_done(sock, prompt_id)
        second_id = queue(held.client, text_to_image(), client_id=SOCKET)
        messages += until_done(sock, second_id)
    ends = [one["prompt_id"] for one in of(messages, "execution_success")]
    assert ends == [prompt_id, second_id]


def test_another_api_process(comfy: Running, redis_server: RedisServer) -> None:
    """The socket is connected to one process, and the prompt is sent to another."""
    settings = settings_for(redis_server.url)
    app = create_app(settings, comfy.store)
    with (
        serving(app, settings) as url,
        httpx.Client(base_url=url, timeout=30, event_hooks=HOOKS) as other,
        socket(comfy.url) as sock,
    ):
        first(sock)
        prompt_id = queue(other, text_to_image(), client_id=SOCKET)
        assert "execution_success" in names(until_done(sock, prompt_id))
        assert other.get(f"/history/{prompt_id}").json().keys() == {prompt_id}


def test_only_the_prompts_of_a_socket(comfy: Running) -> None:
    with socket(comfy.url, "one") as one, socket(comfy.url, "two") as two:
        first(one)
        first(two)
        first_id = queue(comfy.client, text_to_image(), client_id="one")
        second_id = queue(comfy.client, text_to_image(), client_id="two")
        ended(comfy.client, queue(comfy.client, text_to_image()))
        messages = until_done(one, first_id)
        others = until_done(two, second_id)
    assert {data["prompt_id"] for data in of(messages, "executing")} == {first_id}
    assert {data["prompt_id"] for data in of(others, "executing")} == {second_id}


def test_a_second_socket_replaces_the_first(comfy: Running) -> None:
    with socket(comfy.url) as one:
        first(one)
        with socket(comfy.url) as two:
            first(two)
            with pytest.raises(ConnectionClosed):
                one.recv(WAIT_S)
            prompt_id = queue(comfy.client, text_to_image(), client_id=SOCKET)
            assert "executed" in names(until_done(two, prompt_id))


def test_a_late_connection(comfy: Running) -> None:
    """A prompt that has ended is in the history, and the queue is empty."""
    prompt_id = queue(comfy.client, text_to_image(), client_id=SOCKET)
    ended(comfy.client, prompt_id)
    with socket(comfy.url) as sock:
        assert first(sock)["data"]["status"]["exec_info"]["queue_remaining"] == 0


@pytest.mark.parametrize(
    "said", ["x", "[]", "{", '{"type": 5}', '{"type":"feature_flags","data":5}']
)
def test_anything_may_be_said(comfy: Running, said: str) -> None:
    with socket(comfy.url) as sock:
        first(sock)
        sock.send(said)
        sock.send(said)
        prompt_id = queue(comfy.client, text_to_image(), client_id=SOCKET)
        assert "executed" in names(until_done(sock, prompt_id))


def test_a_socket_without_an_id_gets_one(comfy: Running) -> None:
    with socket(comfy.url, "") as sock:
        sid = first(sock)["data"]["sid"]
        prompt_id = queue(comfy.client, text_to_image(), client_id=sid)
        assert "executed" in names(until_done(sock, prompt_id))


def test_sockets_end_with_their_clients(redis_server: RedisServer) -> None:
    with running(redis_server.url, COMFY_CARD) as service:
        watcher = service.app.state.services.watcher
        with socket(service.url) as sock:
            first(sock)
            assert watcher.watched == 1
        deadline = time.monotonic() + WAIT_S
        while watcher.watched and time.monotonic() < deadline:
            time.sleep(0.01)
        assert watcher.watched == 0
