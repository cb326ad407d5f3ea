"""GET /v1/key: every valid key is told what it may do, and nobody about another's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protocol.auth.api_keys import Scope
from tests.service.conftest import Running, running
from tests.service.keys import ADMIN, ADMIN_KEY, key_for


@pytest.fixture
def secured(redis_url: str) -> Iterator[Running]:
    with running(redis_url, auth="required", admin_key=ADMIN_KEY) as service:
        yield service


@pytest.mark.parametrize("scope", Scope)
def test_key_of_every_scope_is_told_its_scopes_and_limits(secured: Running, scope: Scope) -> None:
    limits = {"jobs": 3, "images_per_day": 500}
    headers = key_for(secured, scope, **limits)
    answer = secured.client.get("/v1/key", headers=headers)
    assert answer.status_code == 200
    assert answer.json() == {"name": "a client", "scopes": [scope.value], "limits": limits}
    assert headers["Authorization"].removeprefix("Bearer ") not in answer.text


def test_admin_and_request_without_a_key(secured: Running, service: Running) -> None:
    named = {"scopes": ["admin"], "limits": {}}
    assert secured.client.get("/v1/key", headers=ADMIN).json() == {"name": "admin", **named}
    assert service.client.get("/v1/key").json() == {"name": "", **named}


def test_unknown_and_missing_keys_are_refused(secured: Running) -> None:
    unknown = {"X-API-Key": f"dk_{'0' * 12}_{'a' * 43}"}
    for headers in ({}, unknown):
        answer = secured.client.get("/v1/key", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["type"].endswith(":unauthorized")
    assert secured.client.post("/v1/key", headers=ADMIN).status_code == 405
