"""Two keys never see each other's predictions and files; errors at the door."""

import httpx
import pytest

from protocol.auth.api_keys import Scope
from tests.service.conftest import MAX_BODY_BYTES, Running
from tests.service.dialects.replicate.asking import MODEL_PATH, PATH, WAIT, create
from tests.service.keys import ADMIN, key_for
from tests.service.sample_images import gradient, in_base64, packed

FILES = "/v1/files"
PNG = packed(gradient())


def uploaded(service: Running, key: dict[str, str]) -> dict[str, object]:
    files = {"content": ("cat.png", PNG, "image/png")}
    response = service.client.post(FILES, files=files, headers=key)
    assert response.status_code == 201, response.text
    found: dict[str, object] = response.json()
    return found


def test_predictions_belong_to_their_key(
    secured: Running, ann: dict[str, str], bob: dict[str, str]
) -> None:
    mine, theirs = (create(secured, {"prompt": "x"}, key | WAIT).json() for key in (ann, bob))
    for method, end in (("GET", ""), ("POST", "/cancel"), ("GET", "/stream")):
        path = f"{PATH}/{mine['id']}{end}"
        assert secured.client.request(method, path, headers=bob).status_code == 404
        assert secured.client.request(method, path, headers=ann).status_code == 200
        assert secured.client.request(method, path, headers=ADMIN).status_code == 200
    for key, shown, hidden in ((ann, mine, theirs), (bob, theirs, mine)):
        listed = [one["id"] for one in secured.client.get(PATH, headers=key).json()["results"]]
        assert shown["id"] in listed
        assert hidden["id"] not in listed


def test_files_belong_to_their_key(
    secured: Running, ann: dict[str, str], bob: dict[str, str]
) -> None:
    mine = uploaded(secured, ann)
    path = f"{FILES}/{mine['id']}"
    for method in ("GET", "DELETE"):
        assert secured.client.request(method, path, headers=bob).status_code == 404
    assert secured.client.get(FILES, headers=bob).json()["results"] == []
    sent = {"prompt": "x", "image": mine["urls"]["get"]}  # type: ignore[index]
    refused = create(secured, sent, bob)
    assert (refused.status_code, refused.json()["field"]) == (422, "input.image")
    assert create(secured, sent, ann | WAIT).json()["status"] == "succeeded"


def test_secret_is_that_of_the_key(
    secured: Running, ann: dict[str, str], bob: dict[str, str]
) -> None:
    paths = ("/v1/webhooks/default/secret", "/v1/webhooks/secret")
    one, other, again = (
        secured.client.get(path, headers=key).json()["key"]
        for path, key in ((paths[0], ann), (paths[0], bob), (paths[1], ann))
    )
    assert one == again != other
    assert one.startswith("whsec_")


@pytest.mark.parametrize("path", [PATH, MODEL_PATH, FILES, "/v1/deployments"])
def test_errors_at_the_door_are_problems(secured: Running, ann: dict[str, str], path: str) -> None:
    method = "GET" if path == "/v1/deployments" else "POST"
    refused = secured.client.request(method, path, headers={"Authorization": "Bearer no"})
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    host = secured.client.request(method, path, headers=ann | {"Host": "\x5bevil"})
    assert host.status_code in (400, 421)
    reader = key_for(secured, Scope.READ) if method == "POST" else None
    answers = [refused]
    if reader is not None:
        answers.append(secured.client.post(path, json={}, headers=reader))
        assert answers[-1].status_code == 403
        large = in_base64(bytes(MAX_BODY_BYTES))
        answers.append(secured.client.post(path, json={"input": large}, headers=ann))
        assert answers[-1].status_code in (413, 415)
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert {"title", "detail", "status"} <= problem.keys()
        assert isinstance(problem["detail"], str)
        assert "error" not in problem


def test_rate_of_a_key_refuses_creation_but_not_cancelling(secured: Running) -> None:
    key = key_for(secured, requests_per_minute=1)
    found = create(secured, {"prompt": "x"}, key).json()
    refused = create(secured, {"prompt": "x"}, key)
    assert refused.status_code == 429
    assert refused.headers["retry-after"]
    cancelled = secured.client.post(f"{PATH}/{found['id']}/cancel", headers=key)
    assert cancelled.status_code == 200
    assert uploaded(secured, key)["id"]


def test_images_and_stream_need_no_key(secured: Running, ann: dict[str, str]) -> None:
    found = create(secured, {"prompt": "x"}, ann | WAIT).json()
    [url] = found["output"]
    assert httpx.get(url, timeout=60).headers["content-type"] == "image/png"
    assert httpx.URL(url).path.endswith(".png")
    assert httpx.get(found["urls"]["get"], timeout=60).status_code == 401
