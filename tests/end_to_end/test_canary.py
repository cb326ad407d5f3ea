"""Test that no program logs prompts, keys or other data of clients."""

from pathlib import Path

import httpx

from protocol.request.fields import MAX_PROMPT_LENGTH
from tests.service.sample_images import gradient, in_base64, packed
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_sd

KEY = "canary-key-of-the-operator-0123456789"


def send_requests(url: str) -> list[int]:
    """Send valid and invalid requests, all with private data; returns the statuses."""
    image = in_base64(packed(gradient()))
    good = {"prompt": "canary-prompt", "negative_prompt": "canary-negative", "steps": 2}
    with httpx.Client(base_url=url, timeout=120, headers={"X-API-Key": KEY}) as client:
        responses = [
            client.post("/v1/txt2img", json=good),
            client.post("/v1/img2img", json={**good, "image": image}),
            client.post("/v1/txt2img", json={**good, "canary-field": "canary-value"}),
            client.post("/v1/txt2img", json={**good, "sampler": "canary-sampler"}),
            client.post("/v1/txt2img", json={**good, "prompt": "canary " * MAX_PROMPT_LENGTH}),
            client.post("/v1/txt2img?prompt=canary-query", content=b'{"prompt": "canary-json'),
            client.post("/v1/img2img", json={**good, "image": "canary-image"}),
            client.post("/v1/img2img", json={**good, "image_url": "http://canary.example/x"}),
            client.get("/v1/jobs/canary-id"),
            client.get("/canary-path?canary-query"),
            client.get("/v1/models", headers={"Host": "canary.example"}),
            client.get("/v1/models", headers={"X-API-Key": "canary-guess", "User-Agent": "canary"}),
            client.get("/v1/models", headers={"X-Request-Id": "canary id", "Referer": "canary"}),
        ]
    return [response.status_code for response in responses]


def test_no_prompt_and_no_key_is_logged(tmp_path: Path) -> None:
    model = write_tiny_sd(tmp_path / "tiny")
    settings = {
        "DARKROOM_MODEL": str(model),
        "DARKROOM_AUTH": "required",
        "DARKROOM_ADMIN_KEY": KEY,
    }
    with running_stack(tmp_path, **settings) as url:
        statuses = send_requests(url)
    assert statuses[:2] == [200, 200]
    assert {401, 404, 415, 422} <= set(statuses)
    for program in ("worker", "service"):
        logged = (tmp_path / f"{program}.log").read_text()
        assert "job" in logged  # the log is not empty
        assert "canary" not in logged.lower()
