"""Progress and interruption by HTTP: each client sees and stops its own tasks only."""

import base64
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.service.conftest import Running, running
from tests.service.dialects.automatic1111.webui import WEBUI_CARD, get, info, post
from tests.service.keys import ADMIN_KEY, key_for
from tests.service.raw_http import posted
from tests.service.sample_images import opened
from tests.support.redis_server import RedisServer

IDLE = {"progress": 0.0, "job_count": 0, "job": ""}


@pytest.fixture(scope="module")
def webui(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, WEBUI_CARD, auth="required", admin_key=ADMIN_KEY) as service:
        yield service


@pytest.fixture
def clients(webui: Running) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two clients with keys of their own."""
    one = httpx.Client(base_url=webui.url, headers=key_for(webui), timeout=30)
    other = httpx.Client(base_url=webui.url, headers=key_for(webui), timeout=30)
    with one, other:
        yield one, other


@contextmanager
def generating(
    webui: Running, client: httpx.Client, at_step: int, **fields: Any
) -> Iterator[Future[Any]]:
    """Send a request whose job waits at a step, or in the queue (-1); yield its future answer."""
    webui.worker.hold_at_step = at_step
    webui.worker.hold()
    with ThreadPoolExecutor(1) as pool:
        try:
            body = {"prompt": "x", "steps": 4, **fields}
            yield pool.submit(lambda: post(client, "txt2img", **body))
        finally:
            webui.worker.release()


def progress(client: httpx.Client) -> dict[str, Any]:
    found = get(client, "progress")
    return {
        "progress": found["progress"],
        **{key: found["state"][key] for key in IDLE if key != "progress"},
    }


def until(client: httpx.Client, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the first progress of which `reached` is true."""
    while not reached(found := get(client, "progress")):
        time.sleep(0.01)
    return dict(found)


def test_progress_of_a_client_that_does_nothing(clients: tuple[httpx.Client, ...]) -> None:
    assert progress(clients[0]) == IDLE
    assert post(clients[0], "/internal/progress", id_task="x") == {
        "active": False,
        "queued": False,
        "completed": False,
        "progress": None,
        "eta": None,
        "live_preview": None,
        "id_live_preview": -1,
        "textinfo": None,
    }
    assert get(clients[0], "/internal/pending-tasks") == {"size": 0, "tasks": []}


def test_each_client_sees_and_stops_its_own_tasks(
    webui: Running, clients: tuple[httpx.Client, httpx.Client]
) -> None:
    one, other = clients
    with generating(webui, one, 2, force_task_id="task(mine)") as answer:
        found = until(one, lambda now: now["state"]["sampling_step"] == 2)
        assert found["progress"] == pytest.approx(0.51)
        assert found["eta_relative"] >= 0
        assert found["state"]["job_count"] == 1
        assert (found["state"]["job"], found["state"]["sampling_steps"]) == ("scripts_txt2img", 4)
        assert found["current_task"] == "task(mine)"
        assert progress(other) == IDLE
        task = {"id_task": "task(mine)"}
        assert post(one, "/internal/progress", **task)["active"]
        assert post(one, "/internal/progress", **task)["progress"] == 0.5
        assert not post(other, "/internal/progress", **task)["active"]
        assert post(other, "interrupt") == {}  # stops nothing of the first
        assert post(other, "skip") is None
        assert post(one, "/internal/progress", **task)["active"]
        assert post(one, "interrupt") == {}
        stopped = answer.result()
    assert stopped["images"] == []
    assert len(info(stopped)["all_seeds"]) == 1
    assert progress(one) == IDLE
    assert post(one, "/internal/progress", **task)["completed"]
    assert not post(other, "/internal/progress", **task)["completed"]


def test_a_task_that_waits_is_pending_and_can_be_stopped(
    webui: Running, clients: tuple[httpx.Client, httpx.Client]
) -> None:
    one, other = clients
    with generating(webui, one, -1, force_task_id="waits") as answer:
        found = until(one, lambda now: now["state"]["job_count"] == 1)
        assert found["textinfo"] == "In queue: 1/1"
        assert get(one, "/internal/pending-tasks") == {"size": 1, "tasks": ["waits"]}
        assert get(other, "/internal/pending-tasks") == {"size": 0, "tasks": []}
        found = post(one, "/internal/progress", id_task="waits")
        assert (found["active"], found["queued"]) == (False, True)
        post(one, "skip")
        assert answer.result()["images"] == []


def test_a_request_whose_client_leaves_can_still_be_stopped(
    webui: Running, clients: tuple[httpx.Client, httpx.Client]
) -> None:
    """SillyTavern closes its connection and then interrupts."""
    one, _ = clients
    webui.worker.hold_at_step = 1
    webui.worker.hold()
    try:
        with posted(webui, "/sdapi/v1/txt2img", {"prompt": "x"}, one.headers["Authorization"]):
            until(one, lambda now: now["state"]["sampling_step"] == 1)
        post(one, "interrupt")
        until(one, lambda now: now["state"]["job_count"] == 0)
    finally:
        webui.worker.release()


def test_a_preview_is_shown_where_it_was_asked_for(
    webui: Running, clients: tuple[httpx.Client, httpx.Client]
) -> None:
    one, _ = clients
    enabled = {"live_previews_enable": True}
    with generating(webui, one, 2, override_settings=enabled, force_task_id="shown") as answer:
        until(one, lambda now: now["state"]["sampling_step"] == 2)
        preview = get(one, "progress")["current_image"]
        assert opened(base64.b64decode(preview)).format == "JPEG"
        assert get(one, "progress?skip_current_image=true")["current_image"] is None
        asked = {"id_task": "shown", "live_preview": True, "id_live_preview": -1}
        found = post(one, "/internal/progress", **asked)
        assert found["live_preview"].startswith("data:image/jpeg;base64,")
        asked["id_live_preview"] = found["id_live_preview"]
        assert post(one, "/internal/progress", **asked)["live_preview"] is None
        webui.worker.release()
        assert len(answer.result()["images"]) == 1


def test_no_preview_is_made_where_none_was_asked_for(
    webui: Running, clients: tuple[httpx.Client, httpx.Client]
) -> None:
    one, _ = clients
    with generating(webui, one, 2) as answer:
        found = until(one, lambda now: now["state"]["sampling_step"] == 2)
        assert found["current_image"] is None
        webui.worker.release()
        assert len(answer.result()["images"]) == 1
