"""POST /v1/tokens: lengths of prompts. In the tests' tokenizer every word is a token."""

from __future__ import annotations

import httpx
import pytest

from tests.service.conftest import CARD, Running, running
from tests.service.keys import ADMIN_KEY, key_for


def count(client: httpx.Client, **body: object) -> httpx.Response:
    return client.post("/v1/tokens", json=body)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": ""}, 0),
        ({"prompt": "a red cat"}, 3),
        ({"prompt": "a (red:1.2) cat", "model": "tiny"}, 3),
        ({"prompt": "a (red cat", "prompt_syntax": "plain"}, 3),
        ({"prompt": "a cat BREAK a dog"}, CARD.chunk_tokens + 2),
        ({"prompt": "word " * 200, "model": None}, 200),
    ],
)
def test_number_is_the_one_that_the_model_bounds(
    service: Running, body: dict[str, object], tokens: int
) -> None:
    answer = count(service.client, **body)
    assert answer.status_code == 200
    bound = CARD.max_prompt_tokens
    assert answer.json() == {"model": "tiny", "tokens": tokens, "max_tokens": bound}
    sent = service.client.post("/v1/txt2img", json=body)
    assert sent.status_code == (200 if tokens <= bound else 422), sent.text
    if tokens > bound:
        assert sent.json()["value"] == f"{tokens} tokens"


def test_model_without_prompts_counts_none(redis_url: str) -> None:
    with running(redis_url, CARD.model_copy(update={"max_prompt_tokens": 0})) as service:
        answer = count(service.client, prompt="a cat", model="tiny").json()
    assert (answer["tokens"], answer["max_tokens"]) == (0, 0)


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "prompt"), ({"prompt": 3}, "prompt"), ({"prompt": "", "model": "other"}, "model")],
)
def test_bad_input_is_refused(service: Running, body: dict[str, object], field: str) -> None:
    answer = count(service.client, **body)
    assert answer.status_code == 422
    assert answer.json()["field"] == field


def test_no_limit_of_a_key_counts_it(redis_url: str) -> None:
    with running(redis_url, auth="required", admin_key=ADMIN_KEY) as service:
        headers = key_for(service, requests_per_minute=1)
        for _ in range(3):
            answer = service.client.post("/v1/tokens", json={"prompt": "a"}, headers=headers)
            assert answer.status_code == 200
