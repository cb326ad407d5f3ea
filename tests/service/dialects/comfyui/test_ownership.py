"""Two keys, and two addresses, never see or touch each other's prompts and files."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_socket

from protocol.auth.api_keys import Scope
from tests.service.conftest import HOOKS, Running, running
from tests.service.dialects.comfyui.comfy import ended, files, queue, socket, until_done, upload
from tests.service.dialects.comfyui.graphs import COMFY_CARD, image_to_image, text_to_image
from tests.service.keys import ADMIN, ADMIN_KEY, key_for
from tests.service.sample_images import gradient, packed
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def secured(redis_server: RedisServer) -> Iterator[Running]:
    settings: dict[str, Any] = {"auth": "required", "admin_key": ADMIN_KEY, "model_control": True}
    with running(redis_server.url, COMFY_CARD, **settings) as service:
        yield service


@pytest.fixture
def users(secured: Running) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Return clients with two keys; the second sends its key as a password."""
    one, two = key_for(secured), key_for(secured)
    with (
        httpx.Client(base_url=secured.url, headers=one, event_hooks=HOOKS, timeout=60) as first,
        httpx.Client(
            base_url=secured.url, headers=as_password(two), event_hooks=HOOKS, timeout=60
        ) as second,
    ):
        yield first, second


def as_password(headers: dict[str, str]) -> dict[str, str]:
    """Return the same key in Basic authentication."""
    login = f"anybody:{headers['Authorization'].removeprefix('Bearer ')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(login).decode()}"}


def test_prompts_belong_to_a_key(
    secured: Running, users: tuple[httpx.Client, httpx.Client]
) -> None:
    mine, others = users
    own = "0a1b2c3d-0000-4000-8000-000000000001"
    item = ended(mine, queue(mine, text_to_image(), prompt_id=own))
    [image] = item["outputs"]["9"]["images"]
    assert others.get(f"/history/{own}").json() == {}
    assert others.get("/history").json() == {}
    assert others.get("/view", params=image).status_code == 404
    assert others.post("/history", json={"clear": True, "delete": [own]}).status_code == 200
    assert mine.get("/history").json().keys() == {own}
    assert files(mine, item)
    # The same id is another prompt of the other key.
    ended(others, queue(others, text_to_image(seed=6), prompt_id=own))
    assert mine.get(f"/history/{own}").json()[own]["outputs"] == item["outputs"]
    assert mine.post("/history", json={"delete": [own]}).status_code == 200
    assert mine.get("/history").json() == {}
    assert mine.get("/view", params=image).status_code == 404
    assert others.get("/history").json().keys() == {own}


def test_queues_belong_to_a_key(secured: Running, users: tuple[httpx.Client, httpx.Client]) -> None:
    mine, others = users
    secured.worker.hold_at_step = 1
    secured.worker.hold()
    try:
        running_id = queue(mine, text_to_image())
        while not mine.get("/queue").json()["queue_running"]:
            pass
        secured.worker.hold_at_step = -1
        waiting_id = queue(mine, text_to_image(seed=6))
        for path in ("/queue", "/api/queue"):
            assert others.get(path).json() == {"queue_running": [], "queue_pending": []}
        assert others.get("/prompt").json()["exec_info"]["queue_remaining"] == 0
        others.post("/interrupt")
        others.post("/interrupt", json={"prompt_id": running_id})
        others.post("/queue", json={"clear": True})
        others.post("/queue", json={"delete": [waiting_id, running_id]})
        found = mine.get("/queue").json()
        assert [one[1] for one in found["queue_running"]] == [running_id]
        assert [one[1] for one in found["queue_pending"]] == [waiting_id]
        assert found["queue_pending"][0][2] == text_to_image(seed=6)
        mine.post("/interrupt", json={"prompt_id": waiting_id})  # it does not run
        mine.post("/queue", json={"delete": [waiting_id]})
        assert mine.get("/queue").json()["queue_pending"] == []
        mine.post("/interrupt")
        assert ended(mine, running_id)["status"]["status_str"] == "error"
    finally:
        secured.worker.release()


def test_uploads_belong_to_a_key(users: tuple[httpx.Client, httpx.Client]) -> None:
    mine, others = users
    upload(mine)
    place = {"filename": "cat.png", "type": "input"}
    assert mine.get("/view", params=place).status_code == 200
    assert others.get("/view", params=place).status_code == 404
    assert "cat.png" not in str(others.get("/object_info/LoadImage").json())
    body = others.post("/prompt", json={"prompt": image_to_image()}).json()
    assert "Invalid image file" in body["error"]["details"]
    reference = '{"filename": "cat.png", "subfolder": "", "type": "input"}'
    image = {"image": ("mask.png", packed(gradient().convert("RGBA")))}
    response = others.post("/upload/mask", data={"original_ref": reference}, files=image)
    assert response.status_code == 400
    # A file of the same name is another one.
    upload(others, data=packed(gradient(32, 32)))
    assert len(mine.get("/view", params=place).content) != len(
        others.get("/view", params=place).content
    )


def test_sockets_belong_to_a_key(
    users: tuple[httpx.Client, httpx.Client], secured: Running
) -> None:
    """Another key's socket with the same id is told of nothing, and replaces nothing."""
    mine, others = users
    with (
        socket(secured.url, "shared", Authorization=mine.headers["Authorization"]) as own,
        socket(secured.url, "shared", Authorization=others.headers["Authorization"]) as other,
    ):
        own.recv(10)
        other.recv(10)
        prompt_id = queue(mine, text_to_image(), client_id="shared")
        until_done(own, prompt_id)
        foreign = queue(others, text_to_image(), client_id="shared")
        messages = until_done(other, foreign)
        assert prompt_id not in str(messages)


@pytest.mark.parametrize("path", ["/ws", "/api/ws"])
def test_sockets_are_checked_like_requests(secured: Running, path: str) -> None:
    key = key_for(secured)
    address = secured.url.replace("http", "ws") + path
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({**key, "Origin": "https://evil.example"}, 403),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect_socket(address, additional_headers=headers)
        assert refused.value.response.status_code == status
        assert b'"node_errors"' in (refused.value.response.body or b"")
    with connect_socket(address, additional_headers=key) as sock:
        assert "status" in str(sock.recv(10))


def test_refused_keys_and_scopes(secured: Running) -> None:
    with httpx.Client(base_url=secured.url, event_hooks=HOOKS, timeout=60) as client:
        for method, path in (
            ("GET", "/object_info"),
            ("POST", "/prompt"),
            ("GET", "/models/loras"),
        ):
            response = client.request(method, path)
            assert response.status_code == 401
            assert response.json()["error"]["type"] == "unauthorized"
        client.headers.update(key_for(secured, Scope.READ))
        assert client.get("/queue").status_code == 200
        response = client.post("/prompt", json={"prompt": text_to_image()})
        assert response.status_code == 403
        assert response.json()["error"]["type"] == "forbidden"


def test_free_is_for_admins(secured: Running, users: tuple[httpx.Client, httpx.Client]) -> None:
    commands = secured.app.state.services.model_commands
    mine, _ = users
    assert mine.post("/free", json={"unload_models": True}).status_code == 200
    assert commands.all() == {}
    with httpx.Client(base_url=secured.url, headers=ADMIN, timeout=60) as admin:
        assert admin.post("/free").status_code == 200
        assert commands.all() == {}
        assert admin.post("/free", json={"unload_models": True}).status_code == 200
    assert [one.action.value for one in commands.all().values()] == ["unload"]
