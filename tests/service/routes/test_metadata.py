"""The recipe of an image is left out if the operator or the client says so."""

from __future__ import annotations

import time

from tests.service.conftest import running


def test_operator_can_have_recipes_left_out(redis_url: str) -> None:
    with running(redis_url, embed_metadata=False) as service:
        for fields in ({}, {"metadata": True}):
            service.client.post("/v1/txt2img", json={"prompt": "x", **fields})
        assert [request.metadata for request in service.worker.seen] == [False, False]
        batch = service.client.post("/v1/batches", json={"prompts": ["x", "y"]})
        assert batch.status_code == 202, batch.text
        while len(service.worker.seen) < 4:
            time.sleep(0.01)
        assert not any(request.metadata for request in service.worker.seen)


def test_client_can_have_a_recipe_left_out(redis_url: str) -> None:
    with running(redis_url) as service:
        for fields in ({}, {"metadata": False}, {"metadata": None}):
            service.client.post("/v1/txt2img", json={"prompt": "x", **fields})
        service.client.post("/v1/txt2img", files={"prompt": (None, "x"), "metadata": (None, "no")})
        assert [request.metadata for request in service.worker.seen] == [True, False, True, False]
