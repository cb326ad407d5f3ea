"""Engines, account and balance, errors at the door, and services with other settings."""

import httpx

from protocol.auth.api_keys import Scope
from protocol.request.tasks import Task
from tests.service.conftest import ABLE, MAX_BODY_BYTES, running
from tests.service.dialects.stability.asking import MODEL_CARD, V1, V2, check_error, v1, v2
from tests.service.keys import ADMIN, ADMIN_KEY, key_for
from tests.service.sample_images import gradient, in_base64, opened, packed

PATHS = (f"{V1}/text-to-image", f"{V2}/generate/core", f"{V2}/upscale/creative")
BODY = {"text_prompts": [{"text": "a cat"}], "prompt": "a cat"}
IMAGE = packed(gradient())


def test_account_and_balance(redis_url: str) -> None:
    with running(redis_url, MODEL_CARD, auth="required", admin_key=ADMIN_KEY) as service:
        limited, free = key_for(service, images_per_day=10), key_for(service)
        for path in ("/v1/user/account", "/v1/user/balance", "/v1/engines/list"):
            check_error(service.client.get(path), 401, "unauthorized")
        accounts = [
            service.client.get("/v1/user/account", headers=key).json() for key in (limited, free)
        ]
        assert accounts[0]["id"] != accounts[1]["id"]
        assert [one["is_default"] for one in accounts[0]["organizations"]] == [True]

        def credits(key: dict[str, str]) -> float:
            return float(service.client.get("/v1/user/balance", headers=key).json()["credits"])

        assert (credits(limited), credits(free), credits(ADMIN)) == (10, 1e6, 1e6)
        body = {**BODY, "samples": 3}
        service.client.post(PATHS[0], json=body, headers=limited).raise_for_status()
        assert 7 <= credits(limited) < 7.1
        body["samples"] = 4
        service.client.post(PATHS[0], json=body, headers=limited).raise_for_status()
        response = service.client.post(PATHS[0], json=body, headers=limited)
        check_error(response, 429, "rate_limit_exceeded")
        assert int(response.headers["Retry-After"]) > 0


def test_errors_at_the_door(redis_url: str) -> None:
    with running(redis_url, MODEL_CARD, auth="required", admin_key=ADMIN_KEY) as service:
        reader = key_for(service, Scope.READ)
        for path in (*PATHS, "/v1/generation/x", "/v2beta/x"):
            post = service.client.post
            check_error(post(path, json=BODY), 401, "unauthorized")
            check_error(post(path, json=BODY, headers=reader), 403, "permission_denied")
            page = {**ADMIN, "Origin": "https://example.org"}
            check_error(post(path, json=BODY, headers=page), 403, "permission_denied")
        for path in PATHS:
            large = b" " * (MAX_BODY_BYTES + 1)
            check_error(post(path, content=large, headers=ADMIN), 413, "payload_too_large")


def test_a_foreign_host(redis_url: str) -> None:
    with running(redis_url, MODEL_CARD) as service:
        for path in PATHS:
            response = service.client.post(path, json=BODY, headers={"Host": "example.org"})
            check_error(response, 421, "unknown_host")


def test_a_full_queue_and_a_lost_wait(redis_url: str) -> None:
    with running(redis_url, MODEL_CARD, max_queue_length=1, max_wait_s=0.2) as service:
        service.worker.hold()
        late = v1(service, "text-to-image")
        check_error(late, 504, "deadline_exceeded")
        job = late.headers["Location"].rpartition("/")[2]
        full = v2(service, "generate/core", prompt="a cat")
        check_error(full, 429, "rate_limit_exceeded")
        waiting = service.client.get(f"/v2beta/results/{job}")
        assert waiting.status_code == 202


def test_without_an_upscaler(redis_url: str) -> None:
    """Stability's names of upscalers mean networks; a filter has to be named."""
    with running(redis_url, MODEL_CARD.model_copy(update={"upscalers": ()})) as service:
        response = v2(service, "upscale/fast", image=IMAGE)
        said = check_error(response, 400, "bad_request")
        assert said.startswith("model is missing, but must be lanczos or nearest")
        path = "/v1/generation/esrgan-v1-x2plus/image-to-image/upscale"
        response = service.client.post(path, json={"image": in_base64(IMAGE)})
        said = check_error(response, 404, "not_found")
        assert said.startswith('engine_id is "esrgan-v1-x2plus", but must be lanczos or nearest')


def test_upscaling_by_a_model(redis_url: str) -> None:
    with running(redis_url, ABLE) as service:
        for engine in ("tiny", "stable-diffusion-x4-latent-upscaler"):
            path = f"/v1/generation/{engine}/image-to-image/upscale"
            body = {"image": in_base64(IMAGE), "seed": 7, "steps": 3}
            for size in ({}, {"width": 128}):
                answer = service.client.post(path, json=body | size).raise_for_status().json()
                assert opened(answer["artifacts"][0]["base64"]).size == (128, 128)
                asked = service.worker.seen[-1]
                assert (asked.task, asked.steps, asked.seed) == (Task.UPSCALE, 3, 7)
            response = service.client.post(path, json={**body, "height": 256})
            assert check_error(response, 400, "bad_request").startswith("height is 256")


def test_without_the_dialect_there_is_no_route(redis_url: str) -> None:
    with running(redis_url, MODEL_CARD, dialects="openai") as service:
        for path in PATHS:
            response = httpx.post(f"{service.url}{path}", json=BODY, timeout=60)
            assert response.status_code == 404
            assert response.headers["content-type"] == "application/problem+json"
