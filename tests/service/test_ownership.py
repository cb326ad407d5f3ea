"""Two keys never see or touch each other's jobs, by any route of the application.

The routes are those that the application has, of the dialects too. Each is called with the ids of
another key's jobs, in its path, its query and its body.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.service.conftest import ABLE, Running, running
from tests.service.keys import ADMIN_KEY, key_for

Key = dict[str, str]
ASYNC = {"Prefer": "respond-async"}
CANARY = "canary of the other key"
TASK = "task(txt2img-canary)"  # the id that AUTOMATIC1111's clients give to a job
STREAM_BYTES, TIMEOUT_S = 2**20, 20.0
NAMES = ("id", "ids", "job_id", "request_id", "prompt_id", "id_task", "client_id", "filename")


@pytest.fixture
def secured(redis_url: str) -> Iterator[Running]:
    changed = {"admin_key": ADMIN_KEY, "max_queue_length": 10_000, "max_queue_per_client": 5_000}
    with running(redis_url, ABLE, auth="required", max_wait_s=0.2, **changed) as service:
        yield service


class Owner:
    """A key with a finished, a running and a waiting job, and a batch."""

    def __init__(self, service: Running) -> None:
        self.service, self.key = service, key_for(service)
        self.finished = self._submit(seed=11)
        _until(lambda: self.view(self.finished)["state"] == "finished")
        service.worker.hold_at_step = 0
        service.worker.hold()
        self.running = self._submit(seed=12)
        _until(lambda: "progress" in self.view(self.running))  # it does not change any more
        self.waiting = self._submit(seed=13)
        legacy = {"prompt": CANARY, "seed": 14, "force_task_id": TASK, "steps": 4}
        self._post("/sdapi/v1/txt2img", legacy, {})  # answered by a timeout; the job stays
        batch = {"prompts": [CANARY], "seed": 15, "width": 64, "height": 64}
        self.batch: str = self._post("/v1/batches", batch, {}).json()["id"]
        listed = self._get("/v1/jobs").json()["jobs"]
        self.jobs: list[str] = [job["id"] for job in listed]
        self.ids = [self.finished, self.running, self.waiting, self.batch, TASK]
        self.image = self._get(f"/v1/jobs/{self.finished}/images/0.png").content

    def view(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self._get(f"/v1/jobs/{job}").json()
        return found

    def state(self) -> list[Any]:
        """Return all that could have been changed: jobs, batch, image and the queue."""
        jobs = [self.view(job) for job in self.jobs]
        batch = self._get(f"/v1/batches/{self.batch}").json()
        image = self._get(f"/v1/jobs/{self.finished}/images/0.png").content
        queued = [job for job in self.service.worker.waiting() if job in self.jobs]
        # Jobs of others take turns with them, and a signature names the second of its making.
        constant = re.sub(r'"position": \d+|\?[^"]*', "", json.dumps([jobs, batch]))
        return [constant, [job["state"] for job in jobs], image, queued]

    def secrets(self) -> list[bytes]:
        """Return what no other key may be told: ids, the prompt, and the image in each form."""
        image = self.image
        encoded = base64.b64encode(image[:300])[:-8]
        ids = [*self.jobs, self.batch, TASK]
        return [*map(str.encode, ids), CANARY.encode(), image[60:200], encoded]

    def _submit(self, **fields: Any) -> str:
        size = {"width": 64, "height": 64, "steps": 4}
        answer = self._post("/v1/txt2img", {"prompt": CANARY, **size, **fields}, ASYNC)
        found: str = answer.json()["id"]
        return found

    def _get(self, path: str) -> httpx.Response:
        return self.service.client.get(path, headers=self.key)

    def _post(self, path: str, body: object, headers: Key) -> httpx.Response:
        answer = self.service.client.post(path, json=body, headers=self.key | headers)
        assert answer.status_code < 300 or answer.status_code == 504, answer.text
        return answer


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def paths(service: Running, owner: Owner, *, sockets: bool = False) -> list[tuple[str, str]]:
    """Return method and path of every route, with every id in place of each parameter."""
    found = set()
    for context in iter_route_contexts(service.app.routes):
        if not context.path or isinstance(context.route, WebSocketRoute) != sockets:
            continue
        names = re.findall(r"{(\w+)(?::\w+)?}", context.path)
        template = re.sub(r"{(\w+):\w+}", r"{\1}", context.path)
        for one in owner.ids:
            for values in itertools.product(*(_values(name, owner, one) for name in names)):
                path = template.format(**dict(zip(names, values, strict=True)))
                found |= {(method, path) for method in context.methods or {"GET"}}
    return sorted(found)


def _values(name: str, owner: Owner, one: str) -> list[str]:
    """Return the values of a parameter; the parts of a model's name are all `one`."""
    match name:
        case "index":
            return ["0"]
        case "kind":
            return ["depth", "sound"]
        case "name" | "model_id":
            return ["tiny", owner.finished]
        case _ if name.endswith("_id"):
            return owner.ids
        case _:
            return [one]


def bodies(owner: Owner) -> Iterator[dict[str, Any]]:
    """Yield bodies that name the owner's jobs, as some API or other does."""
    yield {}
    for one in owner.ids:
        yield dict.fromkeys(NAMES, one)
    for name in NAMES:  # alone, for routes that refuse unknown fields
        yield {name: TASK if name == "id_task" else owner.running}
    yield {"delete": owner.ids}
    yield {"delete": owner.ids, "clear": True}


def calls(client: httpx.Client, owner: Owner, method: str, path: str) -> Iterator[httpx.Request]:
    """Yield requests of a route."""
    if method in ("GET", "HEAD", "OPTIONS", "DELETE"):
        yield client.build_request(method, path)
        if not any(one in path for one in owner.ids):
            for one in owner.ids:
                yield client.build_request(method, path, params=dict.fromkeys(NAMES, one))
    if method not in ("GET", "HEAD", "OPTIONS"):
        for body in bodies(owner):
            yield client.build_request(method, path, json=body)


def test_no_route_shows_or_touches_jobs_of_another_key(secured: Running) -> None:
    owner = Owner(secured)
    other = key_for(secured)
    before, secrets = owner.state(), owner.secrets()
    assert sorted(before[1]) == ["finished", *["queued"] * 3, "running"]
    called = 0
    with httpx.Client(base_url=secured.url, headers=other | ASYNC, timeout=TIMEOUT_S) as client:
        for method, path in paths(secured, owner):
            for request in calls(client, owner, method, path):
                answer = client.send(request)
                sent = f"{unquote_plus(str(request.url))} {request.content.decode()}".encode()
                told = [secret for secret in secrets if secret in answer.content]
                # An error may repeat an id that the request names, and say no more.
                echoed = [secret for secret in told if secret in sent]
                assert told == echoed, (method, path, answer.text[:300])
                assert not echoed or answer.status_code >= 400, (method, path, answer.text[:300])
                called += 1
        assert client.get("/v1/jobs").status_code == 200
    assert called > 500
    assert owner.state() == before


def test_no_web_socket_opens_for_jobs_of_another_key(secured: Running) -> None:
    owner = Owner(secured)
    other = key_for(secured)
    before = owner.state()
    base = secured.url.replace("http", "ws", 1)
    found = [path for _, path in paths(secured, owner, sockets=True) if owner.running in path]
    assert found
    for path in found:
        with connect(base + path, additional_headers=owner.key):
            pass
        with pytest.raises(InvalidStatus) as refused:
            connect(base + path, additional_headers=other)
        assert refused.value.response.status_code == 404
    assert owner.state() == before


def test_owner_sees_its_jobs_by_the_same_requests(secured: Running) -> None:
    """Without this, the tests above would pass for a service that shows nothing."""
    owner = Owner(secured)
    shown = set()
    for context in iter_route_contexts(secured.app.routes):
        if "GET" in (context.methods or ()) and context.path and "/events" not in context.path:
            names = re.findall(r"{(\w+)(?::\w+)?}", context.path)
            known = {"job_id": owner.finished, "batch_id": owner.batch, "index": "0"}
            if set(names) <= known.keys():
                answer = secured.client.get(context.path.format(**known), headers=owner.key)
                if any(secret in answer.content for secret in owner.secrets()):
                    shown.add(context.path)
    assert shown >= {
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/images/{index}.png",
        "/v1/batches/{batch_id}",
    }
