"""Requests to services with other settings, models or faults."""

import httpx

from protocol.errors import InvalidRequest, JobFailed
from tests.service.conftest import CARD, running
from tests.service.dialects.openai.asking import PATH, generated
from tests.service.sample_images import opened


def test_an_image_by_url_needs_no_key(redis_url: str) -> None:
    key = "k" * 40
    with running(redis_url, auth="required", admin_key=key) as service:
        fields = {"prompt": "a cat", "response_format": "url"}
        headers = {"Authorization": f"Bearer {key}"}
        answer = service.client.post(PATH, json=fields, headers=headers).json()
        assert opened(httpx.get(answer["data"][0]["url"], timeout=60).content).size == (64, 64)
        response = service.client.post(PATH, json=fields)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
        models = service.client.get("/v1/models")
        assert (models.status_code, models.json()["error"]["code"]) == (401, "invalid_api_key")
        assert service.client.options(PATH).is_success  # stable-diffusion.cpp's clients ask so


def test_a_model_may_have_the_name_of_one_of_openais(redis_url: str) -> None:
    named = CARD.model_copy(update={"name": "dall-e-3", "min_side": 64})
    with running(redis_url, named) as service:
        assert generated(service, model="dall-e-3", size="64x64")[1].model == "dall-e-3"


def test_loras(redis_url: str) -> None:
    with running(redis_url, CARD.model_copy(update={"loras": ("pencil", "ink")})) as service:
        for fields in (
            {"loras": [{"name": "ink", "scale": 0.5}]},
            {"loras": '[{"name": "ink", "weight": "0.5"}]'},
            {"lora": {"name": "ink", "scale": 0.5, "path": "/x", "int_id": 1}},
        ):
            (lora,) = generated(service, **fields)[1].loras
            assert (lora.name, lora.weight) == ("ink", 0.5)


def test_a_full_queue_and_a_lost_wait(redis_url: str) -> None:
    with running(redis_url, max_queue_length=1, max_wait_s=0.2) as service:
        service.worker.hold()
        late = service.client.post(PATH, json={"prompt": "a cat"})
        assert (late.status_code, late.headers["x-should-retry"]) == (504, "false")
        full = service.client.post(PATH, json={"prompt": "a cat"})
        assert full.status_code == 429
        assert full.json()["error"]["type"] == "rate_limit_error"
        assert int(full.headers["Retry-After"]) > 0
        assert full.headers["x-request-id"]
        (job,) = service.worker.waiting()
        assert late.headers["Location"] == f"/v1/jobs/{job}"


def test_a_failed_and_a_cancelled_job(redis_url: str) -> None:
    with running(redis_url) as service:
        service.worker.error = JobFailed("the worker ran out of memory")
        failed = service.client.post(PATH, json={"prompt": "a cat"})
        assert (failed.status_code, failed.json()["error"]["type"]) == (500, "server_error")
        assert "out of memory" in failed.json()["error"]["message"]
        service.worker.error = InvalidRequest("prompt", 90, "at most 77 tokens", "prompt-too-long")
        invalid = service.client.post(PATH, json={"prompt": "a cat"})
        assert (invalid.status_code, invalid.json()["error"]["param"]) == (400, "prompt")


def test_without_the_dialect_there_is_no_route(redis_url: str) -> None:
    with running(redis_url, dialects="automatic1111") as service:
        response = httpx.post(f"{service.url}{PATH}", json={"prompt": "a cat"}, timeout=60)
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
