"""fal's browser-proxy protocol: addresses of fal are mapped, and none is fetched."""

from typing import Any

import httpx
import pytest

from tests.service.conftest import Running
from tests.service.dialects.fal.asking import APP, check_error, events

PROXY = "/api/fal/proxy"


def call(service: Running, method: str, target: str, body: Any = None) -> httpx.Response:
    headers = {"x-fal-target-url": target}
    return service.client.request(method, PROXY, headers=headers, json=body)


def test_run(fal: Running) -> None:
    response = call(fal, "POST", f"https://fal.run/{APP}", {"prompt": "a cat", "seed": 7})
    assert response.json()["seed"] == 7
    assert response.headers["x-fal-request-id"]
    wrong = call(fal, "POST", f"https://fal.run/{APP}", {"prompt": "a cat", "num_images": 99})
    assert check_error(wrong, 422)[0]["loc"] == ["body", "num_images"]
    stream = call(fal, "POST", f"https://fal.run/{APP}/stream", {"prompt": "a cat", "seed": 7})
    assert events(stream)[-1]["seed"] == 7


def test_queue(fal: Running) -> None:
    app = f"https://queue.fal.run/{APP}"
    request = call(fal, "POST", f"{app}/text-to-image", {"prompt": "a cat", "seed": 7}).json()
    target = f"{app}/requests/{request['request_id']}"
    states = events(call(fal, "GET", f"{target}/status/stream?logs=1"))
    assert states[-1]["status"] == "COMPLETED"
    status = call(fal, "GET", f"{target}/status?logs=1").json()
    assert (status["status"], len(status["logs"])) == ("COMPLETED", 1)
    assert call(fal, "GET", f"{target}/status?logs=0").json()["logs"] is None
    assert call(fal, "GET", target).json()["seed"] == 7
    assert call(fal, "PUT", f"{target}/cancel").json()["status"] == "ALREADY_COMPLETED"


@pytest.mark.parametrize(
    "target",
    [
        "",
        "fal.run/someone/tiny",
        "http://fal.run/someone/tiny",
        "https://fal.run:443/someone/tiny",
        "https://user@fal.run/someone/tiny",
        "https://fal.run@127.0.0.1/someone/tiny",
        "https://fal.run.example.org/someone/tiny",
        "https://example.org/fal.run",
        "https://127.0.0.1/v1/jobs",
        "https://rest.fal.ai/storage/upload/initiate",
        "https://[fal.run/someone/tiny",
        "//fal.run/someone/tiny",
        "file:///etc/passwd",
    ],
)
def test_other_addresses_are_refused(fal: Running, target: str) -> None:
    for method in ("GET", "POST", "PUT"):
        check_error(call(fal, method, target), 400)
        assert "x-fal-target-url" in check_error(fal.client.request(method, PROXY), 400)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/../v1/models",
        "/../../v1/jobs",
        "/..%2f..%2fv1%2fmodels",
        "/%2e%2e/%2e%2e/v1/models",
        "//v1/models",
        "/someone",
        "/someone/tiny/requests",
        "/%ff/%00",
        "/a" * 500,
    ],
)
def test_paths_stay_below_those_of_fal(fal: Running, path: str) -> None:
    for host in ("fal.run", "queue.fal.run"):
        for method in ("GET", "POST", "PUT"):
            response = call(fal, method, f"https://{host}{path}", {"prompt": "x"})
            assert response.status_code in (200, 404, 405, 422), response.text
            assert response.status_code != 200 or "images" in response.json()
