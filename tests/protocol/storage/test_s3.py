"""The object store in a bucket of a real S3-compatible server, which verifies signatures."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from protocol.errors import StoreUnavailable, UnknownImage
from protocol.request.object_keys import OutputFormat, input_key, result_key
from protocol.storage.object_store import ObjectStore
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_sd

URL = "s3://images/studio"
KEY = result_key("0" * 32, 0, OutputFormat.PNG)
OTHER_KEY = result_key("0" * 32, 1, OutputFormat.PNG)


@pytest.fixture
def store(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Open the bucket as the programs do, with credentials from the environment."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return ObjectStore.open(URL)


def test_stored_objects_can_be_read_and_deleted(store: ObjectStore) -> None:
    big = os.urandom(3_000_000)
    store.put(KEY, b"one", "image/png")
    store.put(KEY, big, "image/png")
    assert store.get(KEY) == big
    store.delete(KEY)
    store.delete(KEY)
    with pytest.raises(UnknownImage):
        store.get(KEY)


def test_old_objects_are_listed(store: ObjectStore) -> None:
    store.put(KEY, b"one", "image/png")
    now = datetime.now(UTC)
    assert [KEY] in list(store.older_than("results", now + timedelta(hours=1)))
    assert not any(store.older_than("results", now - timedelta(hours=1)))
    assert not any(store.older_than("inputs", now + timedelta(hours=1)))


def test_signed_url_opens_its_own_image_only(store: ObjectStore) -> None:
    store.put(KEY, b"one", "image/png")
    store.put(OTHER_KEY, b"two", "image/png")
    url = store.presign(KEY, 60)
    assert url is not None
    answer = httpx.get(url, timeout=60)
    assert (answer.status_code, answer.content) == (200, b"one")
    assert answer.headers["Content-Type"] == "image/png"
    another = url.replace("/0.png", "/1.png")
    for_longer = url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")
    assert (
        httpx.get(another, timeout=60).status_code
        == httpx.get(for_longer, timeout=60).status_code
        == 403
    )
    assert not httpx.get(url.partition("?")[0], timeout=60).is_success
    assert httpx.put(url, content=b"three", timeout=60).status_code == 403
    assert store.get(KEY) == b"one"


@pytest.mark.parametrize(
    "wrong", [{"AWS_SECRET_ACCESS_KEY": "guessed"}, {"AWS_ACCESS_KEY_ID": "darkroom:unknown"}]
)
def test_wrong_credentials_are_refused(
    store: ObjectStore, wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(KEY, b"one", "image/png")
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    unauthorized = ObjectStore.open(URL)
    with pytest.raises(StoreUnavailable):
        unauthorized.get(KEY)
    with pytest.raises(StoreUnavailable):
        unauthorized.put(OTHER_KEY, b"three", "image/png")
    url = unauthorized.presign(KEY, 60)
    assert url is not None
    assert httpx.get(url, timeout=60).status_code == 403


def test_local_stack_stores_its_images_in_the_bucket(
    s3: dict[str, str], store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = write_tiny_sd(tmp_path_factory.mktemp("models") / "tiny")
    body = {
        "prompt": "the red cat",
        "steps": 3,
        "seed": 9,
        "response": "url",
        "image": image_base64(),
    }
    with running_stack(DARKROOM_MODEL=str(model), OBJECT_STORE_URL=URL, **s3) as stack:
        answer = httpx.post(f"{stack}/v1/img2img", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        job, [image] = answer.json()["id"], answer.json()["images"]
        again = httpx.get(f"{stack}/v1/jobs/{job}/images/0", timeout=60)
    signed = httpx.get(image["url"], timeout=60)  # from the bucket itself: the stack is stopped
    key = result_key(job, 0, OutputFormat.PNG)
    assert urlsplit(image["url"]).path == f"/images/studio/{key}"
    assert signed.status_code == 200
    assert signed.headers["Content-Type"] == "image/png"
    assert signed.content == again.content == store.get(key)
    assert Image.open(io.BytesIO(signed.content)).size == (48, 32)
    [inputs] = store.older_than("inputs", datetime.now(UTC) + timedelta(hours=1))
    assert [input_key(store.get(name)) for name in inputs] == inputs


def test_service_without_signed_urls_returns_the_files(
    s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = write_tiny_sd(tmp_path_factory.mktemp("models") / "tiny")
    settings = {"OBJECT_STORE_URL": URL, "DARKROOM_IMAGE_URL_TTL_S": "0", **s3}
    body = {"prompt": "the red cat", "steps": 3, "response": "url"}
    with running_stack(DARKROOM_MODEL=str(model), **settings) as stack:
        [image] = httpx.post(f"{stack}/v1/txt2img", json=body, timeout=60).json()["images"]
        assert image["url"].startswith(stack)
        assert httpx.get(image["url"], timeout=60).content.startswith(b"\x89PNG")


def test_program_that_used_the_bucket_exits_normally(s3: dict[str, str]) -> None:
    """The threads of the client must not abort the process at its exit."""
    program = f"""
from protocol.storage.object_store import ObjectStore
store = ObjectStore.open({URL!r})
store.put({KEY!r}, b"one", "image/png")
assert store.get({KEY!r}) == b"one"
"""
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **s3}, check=False)
    assert done.returncode == 0


def image_base64() -> str:
    """Return an input image of 48 x 32 pixels in base64."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((48, 32)).convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
