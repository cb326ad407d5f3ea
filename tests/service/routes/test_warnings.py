"""Warnings about accepted requests: in JSON responses, in events, and in a header of files."""

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from service.images.masks import MARKED
from service.schemas.file_responses import WARNINGS_HEADER
from tests.service.conftest import Running, running
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    with running(redis_url) as service:
        yield service


def body(mask: Image.Image, **fields: object) -> dict[str, object]:
    images = {"image": in_base64(packed(gradient())), "mask": in_base64(packed(mask))}
    return {"prompt": "x", **images, **fields}


EMPTY = Image.new("L", (64, 64))


def test_usual_requests_have_an_empty_list(service: Running) -> None:
    for path, fields in (("inpaint", body(left_half_white())), ("txt2img", {"prompt": "x"})):
        response = service.client.post(f"/v1/{path}", json=fields).json()
        assert response["warnings"] == []
        job = service.client.get(f"/v1/jobs/{response['id']}")
        assert job.json()["warnings"] == []
        file = service.client.get(f"/v1/jobs/{response['id']}/images/0")
        assert WARNINGS_HEADER not in file.headers


def test_waiting_response_has_the_warnings(service: Running) -> None:
    response = service.client.post("/v1/inpaint", json=body(EMPTY))
    assert response.status_code == 200, response.text
    (warning,) = response.json()["warnings"]
    assert set(warning) == {"code", "field", "detail"}
    assert (warning["code"], warning["field"]) == ("mask-empty", "mask")


def test_form_has_the_warnings_too(service: Running) -> None:
    files = {"image": packed(gradient()), "mask": packed(EMPTY)}
    response = service.client.post("/v1/inpaint", data={"prompt": "x"}, files=files)
    assert [warning["code"] for warning in response.json()["warnings"]] == ["mask-empty"]


def test_job_keeps_its_warnings_in_every_state(service: Running) -> None:
    service.worker.hold()
    service.worker.hold_at_step = 2
    accepted = service.client.post("/v1/inpaint", json=body(EMPTY), headers=ASYNC)
    assert accepted.status_code == 202
    job = accepted.json()
    codes = [[warning["code"] for warning in job["warnings"]]]
    states = [job["state"]]
    with service.client.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
        service.worker.release()
        for line in events.iter_lines():
            if line.startswith("data: "):
                view = json.loads(line[6:])
                states.append(view["state"])
                codes.append([warning["code"] for warning in view["warnings"]])
    final = service.client.get(f"/v1/jobs/{job['id']}").json()
    assert states[-1] == final["state"] == "finished"
    assert codes == [["mask-empty"]] * len(states)
    assert final["warnings"] == final["result"]["warnings"] == job["warnings"]


def test_cancelled_job_keeps_its_warnings(service: Running) -> None:
    service.worker.hold()
    job = service.client.post("/v1/inpaint", json=body(EMPTY), headers=ASYNC).json()
    cancelled = service.client.delete(f"/v1/jobs/{job['id']}").json()
    assert cancelled["state"] == "cancelled"
    assert cancelled["warnings"] == job["warnings"] != []


def test_file_has_the_warnings_in_a_header(service: Running) -> None:
    mask = Image.new("RGB", (64, 64))
    ImageDraw.Draw(mask).line((5, 5, 40, 40), (200, 0, 0), 5)
    response = service.client.post("/v1/inpaint", json=body(mask, response="url")).json()
    header = httpx.get(response["images"][0]["url"], timeout=60).headers[WARNINGS_HEADER]
    # A list of structured fields (RFC 9651): no detail has a quotation mark or a backslash.
    expected = [
        f'{warning["code"]};field="mask";detail="{warning["detail"]}"'
        for warning in response["warnings"]
    ]
    assert len(expected) == 2
    assert header == ", ".join(expected)


def test_repeated_request_has_the_warnings_of_the_first(service: Running) -> None:
    headers = {"Idempotency-Key": "again"}
    first, second = (
        service.client.post("/v1/inpaint", json=body(EMPTY), headers=headers).json()
        for _ in range(2)
    )
    assert (first["id"], first["warnings"]) == (second["id"], second["warnings"])
    assert first["warnings"] != []


@pytest.mark.parametrize("stored", [None, b"", b"no JSON", b'[{"code": "x"}]', b"\xff"])
def test_job_of_another_version_has_no_warnings(service: Running, stored: bytes | None) -> None:
    service.worker.hold()
    job = service.client.post("/v1/inpaint", json=body(EMPTY), headers=ASYNC).json()
    key = f"rq:job:{job['id']}"
    if stored is None:
        service.worker.redis.hdel(key, "warnings")
    else:
        service.worker.redis.hset(key, "warnings", stored)
    assert service.client.get(f"/v1/jobs/{job['id']}").json()["warnings"] == []


@pytest.mark.parametrize("data", [b"", b"no image", packed(EMPTY)[:60], packed(EMPTY, "GIF")])
def test_unreadable_mask_is_rejected(service: Running, data: bytes) -> None:
    fields = body(EMPTY) | {"mask": in_base64(data)}
    response = service.client.post("/v1/inpaint", json=fields)
    assert (response.status_code, response.json()["field"]) == (422, "mask")


def test_thin_stroke_reaches_the_worker_at_a_smaller_size(service: Running) -> None:
    mask = Image.new("L", (128, 128))
    mask.paste(255, (0, 33, 128, 34))
    fields = {"prompt": "x", "width": 32, "height": 32, "mask": in_base64(packed(mask))}
    fields["image"] = in_base64(packed(gradient(128, 128)))
    response = service.client.post("/v1/inpaint", json=fields)
    assert response.status_code == 200, response.text
    assert response.json()["warnings"] == []
    (request,) = service.worker.seen
    assert request.mask_key is not None
    rows = np.asarray(opened(service.store.get(request.mask_key))) >= MARKED
    np.testing.assert_array_equal(rows, (np.arange(32) == 8)[:, None].repeat(32, axis=1))
