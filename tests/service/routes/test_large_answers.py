"""Answers whose images are too large for base64 name `response: url`; the job is finished."""

import pytest

from service.schemas import response_builder
from tests.service.conftest import Running


def test_large_images_are_refused_in_base64_but_can_be_fetched(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"prompt": "x", "n": 2}
    [one, other] = service.client.post("/v1/txt2img", json=body).json()["images"]
    characters = len(one["base64"]) + len(other["base64"])
    body["seed"] = one["seed"]
    monkeypatch.setattr(response_builder, "MAX_BASE64", characters)
    assert service.client.post("/v1/txt2img", json=body).status_code == 200

    monkeypatch.setattr(response_builder, "MAX_BASE64", characters - 1)
    response = service.client.post("/v1/txt2img", json=body)
    problem = response.json()
    assert (response.status_code, problem["field"]) == (422, "response")
    assert problem["value"] == "base64"
    assert problem["bound"].startswith(f"url: the files take {characters} characters")
    job = service.client.get(problem["job"]).json()
    assert job["state"] == "finished"
    assert len(service.client.get(job["result"]["images"][0]["url"]).content) == one["bytes"]
    assert service.client.post("/v1/txt2img", json={**body, "response": "url"}).status_code == 200
