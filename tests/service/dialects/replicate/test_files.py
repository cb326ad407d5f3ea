"""Files: uploaded, listed, used as inputs, deleted."""

import hashlib
import json
from typing import Any

import httpx
import pytest

from tests.service.conftest import Running
from tests.service.dialects.replicate.asking import generated
from tests.service.sample_images import gradient, opened, packed, same

PATH = "/v1/files"
PNG = packed(gradient())


def upload(service: Running, data: bytes = PNG, **form: Any) -> httpx.Response:
    files = {"content": ("cat.png", data, "application/octet-stream"), **form}
    return service.client.post(PATH, files=files)


@pytest.mark.parametrize(
    "metadata",
    [(None, json.dumps({"a": [1]})), ("blob", json.dumps({"a": [1]}), "application/json")],
    ids=["text", "file"],
)
def test_file_is_described(replicate: Running, metadata: Any) -> None:
    """The Python client sends its metadata as text, the JavaScript client as a file."""
    response = upload(replicate, metadata=metadata)
    assert response.status_code == 201, response.text
    found = response.json()
    digest = hashlib.sha256(PNG).hexdigest()
    assert (found["name"], found["content_type"]) == ("cat.png", "image/png")
    assert (found["size"], found["etag"]) == (len(PNG), digest)
    assert found["checksums"] == {"sha256": digest}
    assert found["metadata"] == {"a": [1]}
    assert found["created_at"] < found["expires_at"]
    assert replicate.client.get(f"{PATH}/{found['id']}").json() == found
    assert found in replicate.client.get(PATH).json()["results"]


def test_file_and_output_are_inputs(replicate: Running) -> None:
    """No address of another machine is taken by this service."""
    url = upload(replicate).json()["urls"]["get"]
    assert httpx.get(url, timeout=60).content == PNG
    found, _ = generated(replicate, image=url)
    assert found["input"]["image"] == url
    [output] = found["output"]
    assert same(opened(httpx.get(output, timeout=60).content), gradient())
    generated(replicate, image=output, mask=url)


def test_deleted_file_is_gone(replicate: Running) -> None:
    found = upload(replicate).json()
    assert replicate.client.delete(f"{PATH}/{found['id']}").status_code == 204
    assert replicate.client.get(f"{PATH}/{found['id']}").status_code == 404
    assert replicate.client.delete(f"{PATH}/{found['id']}").status_code == 404
    assert httpx.get(found["urls"]["get"], timeout=60).status_code == 404


@pytest.mark.parametrize(
    ("data", "form", "field"),
    [
        (b"no image", {}, "content"),
        (b"", {}, "content"),
        (PNG[:40], {}, "content"),
        (PNG, {"metadata": (None, "[]")}, "body"),
        (PNG, {"metadata": (None, "{")}, "body"),
        (PNG, {"metadata": (None, json.dumps({"a": "x" * 2**14}))}, "metadata"),
        (PNG, {"more": ("a", b"x"), "another": ("b", b"x")}, "body"),
    ],
)
def test_wrong_uploads(replicate: Running, data: bytes, form: Any, field: str) -> None:
    response = upload(replicate, data, **form)
    assert 400 <= response.status_code < 500
    assert response.json()["field"] == field


def test_upload_is_a_form(replicate: Running) -> None:
    assert replicate.client.post(PATH, json={"content": "x"}).status_code == 415
    assert replicate.client.post(PATH, data={"content": "x"}, files={}).status_code == 415
    assert replicate.client.post(PATH, files={"other": ("a", PNG)}).json()["field"] == "content"
