"""The application: models, health, metrics, headers, pages, OpenAPI, errors, Redis outages."""

import logging
import re
from dataclasses import replace
from typing import cast
from urllib.parse import urljoin

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from protocol.registry.presence import WorkerReport, WorkerState
from service.app import create_app
from service.jobs.job_submitter import JobSubmitter
from service.page_files import SWAGGER_UI
from tests.service.conftest import CARD, Running, running, serving, settings_for
from tests.service.sample_images import gradient, in_base64, packed
from tests.support.redis_server import RedisServer


def test_models_are_listed_with_their_bounds(service: Running) -> None:
    (model,) = service.client.get("/v1/models").json()["models"]
    assert (model["name"], model["ready"], model["workers"]) == ("tiny", True, 1)
    assert model["max_prompt_tokens"] == CARD.max_prompt_tokens


def test_samplers_are_listed(service: Running) -> None:
    response = service.client.get("/v1/samplers").json()
    assert response["samplers"][0] == {"name": "ddim", "title": "DDIM", "models": ["tiny"]}
    assert [choice["name"] for choice in response["schedules"]] == ["leading", "karras"]


def test_readyz_gives_the_reason(service: Running) -> None:
    assert service.client.get("/healthz").json() == {"status": "ok"}
    assert service.client.get("/readyz").json()["workers"][0]["state"] == "ready"
    loading = WorkerReport(name="fake", state=WorkerState.LOADING, progress=0.4, detail="unet")
    service.worker.presence.report(loading)
    response = service.client.get("/readyz")
    assert response.status_code == 503
    assert "worker fake is loading, 40% done (unet)" in response.json()["detail"]
    service.worker.report(WorkerState.SETUP_FAILED)
    assert "setup failed" in service.client.get("/readyz").json()["detail"]
    service.worker.presence.leave("fake")
    assert "no worker is running" in service.client.get("/readyz").json()["detail"]


def test_request_without_any_model_is_rejected(redis_url: str) -> None:
    with serving(create_app(settings_for(redis_url))) as url:
        headers = {"Prefer": "wait=0"}
        response = httpx.post(
            f"{url}/v1/txt2img", json={"prompt": "x"}, headers=headers, timeout=60
        )
    assert response.status_code == 503
    assert response.json()["type"].endswith(":not-ready")


def test_metrics_count_requests_and_waiting_jobs(service: Running) -> None:
    service.client.post("/v1/txt2img", json={"prompt": "x"}).raise_for_status()
    service.client.get("/nowhere")
    service.worker.hold()
    service.client.post("/v1/txt2img", json={"prompt": "x"}, headers={"Prefer": "respond-async"})
    text = service.client.get("/metrics").text
    counted = 'darkroom_http_requests_total{method="POST",route="/v1/txt2img",status="200"} 1.0'
    assert counted in text
    assert 'route="none",status="404"' in text
    queued = 'darkroom_queue_depth{model="tiny",priority="normal",state="queued"} 1.0'
    assert queued in text
    assert 'darkroom_http_request_seconds_bucket{le="1200.0",route="/v1/txt2img"}' in text


def test_responses_have_request_id_and_security_headers(service: Running) -> None:
    given = service.client.get("/healthz", headers={"X-Request-Id": "abc-123"})
    assert given.headers["x-request-id"] == "abc-123"
    assert given.headers["x-content-type-options"] == "nosniff"
    replaced = service.client.get("/healthz", headers={"X-Request-Id": "a b\tc"})
    assert len(replaced.headers["x-request-id"]) == 32


ASSET = re.compile(r'(?:src|href)="(/pages/[^"]+)"|(?:from |import\()"(\.[^"]+\.js)"')
# Names of no request: that of SVG, and the address of a local service in examples.
NAMES = re.compile(r"http://www\.w3\.org/2000/svg|http://127\.0\.0\.1:8000")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_other_sites(service: Running, path: str) -> None:
    page = service.client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for inline in ("<style", "<script>", " style=", " onclick="):
        assert inline not in page.text
    seen: set[str] = set()
    needed = {path}
    while needed - seen:
        asset = service.client.get((needed - seen).pop())
        seen.add(asset.url.path)
        assert asset.status_code == 200
        if asset.url.path.rpartition("/")[2] in SWAGGER_UI:
            continue  # has addresses in its texts; tests/end_to_end/test_reference.py tests it
        for external in ("@import", "http://", "https://", "//cdn"):
            assert external not in NAMES.sub("", asset.text)
        found = ASSET.findall(asset.text)
        needed |= {one or urljoin(asset.url.path, other) for one, other in found}
    assert {name.rpartition(".")[2] for name in needed - {path}} == {"css", "js"}


@pytest.mark.parametrize(
    "name", ["studio/studio.html", "studio/", "none.js", "../app.py", "%2e%2e%2fapp.py", ".js", ""]
)
def test_only_assets_of_the_pages_are_served(service: Running, name: str) -> None:
    assert service.client.get(f"/pages/{name}").status_code == 404


def test_wrong_method_gets_the_allowed_ones(service: Running) -> None:
    response = service.client.put(f"/v1/jobs/{'0' * 32}")
    assert response.status_code == 405
    allowed = {"GET", "HEAD", "DELETE", "OPTIONS"}
    assert set(response.headers["allow"].split(", ")) == allowed
    assert service.client.get("/v1/txt2img").headers["allow"] == "POST, OPTIONS"


def test_redis_outage_is_a_problem_and_passes(redis_url: str) -> None:
    with RedisServer() as server, running(server.url) as service:
        server.stop()
        response = service.client.post("/v1/txt2img", json={"prompt": "x"})
        assert response.status_code == 503
        assert response.json()["type"].endswith(":queue-unavailable")
        assert service.client.get("/readyz").status_code == 503
        assert service.client.get("/healthz").status_code == 200
        server.start()
        assert service.client.get("/v1/models").status_code == 200


def test_prompts_are_not_logged(service: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    image = in_base64(packed(gradient()))
    fields = {"prompt": "canary-one", "negative_prompt": "canary-two", "image": image}
    service.client.post("/v1/img2img", json=fields).raise_for_status()
    service.client.post("/v1/img2img", json=fields | {"steps": 99})
    service.client.post("/v1/img2img", json=fields | {"canary-three": "canary-four"})
    assert "canary" not in caplog.text


class BrokenSubmitter:
    """Raises an exception whose message must not be shown."""

    message = "canary at 0x7f00dead"  # not in the line that raises, which the log shows

    async def submit(self, *_: object, **__: object) -> str:
        raise RuntimeError(self.message)


def test_unexpected_error_does_not_show_its_message(
    service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    state = service.app.state
    state.services = replace(state.services, submitter=cast(JobSubmitter, BrokenSubmitter()))
    response = service.client.post("/v1/txt2img", json={"prompt": "x"})
    assert response.status_code == 500
    assert response.json()["type"].endswith(":internal")
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "canary" not in response.text + caplog.text
    assert "RuntimeError" in caplog.text


def test_routes_are_counted_by_their_whole_paths(service: Running) -> None:
    """A prefix that is given when a router is included would be missing."""
    paths = {
        context.path for context in iter_route_contexts(service.app.routes) if context.path
    } | {"none"}
    for path in sorted(paths):
        if not path.endswith("/ws"):
            with service.client.stream("GET", path.replace("{job_id}", "0" * 32)):
                pass
    text = service.client.get("/metrics").text
    counted = set(re.findall(r'darkroom_http_requests_total{.*route="([^"]*)"', text))
    assert counted <= paths
    assert "/sdapi/v1/options" in counted
