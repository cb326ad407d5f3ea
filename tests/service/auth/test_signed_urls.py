"""URLs of images can be read without a key until they expire, and only exactly as signed."""

import time
from collections.abc import Iterator
from unittest import mock

import httpx
import pytest

from protocol.auth.signing_secret import SECRET, SigningSecret
from protocol.connection.redis_client import connect
from service.auth.signed_urls import UrlSigner
from service.auth.signing_keys import SigningKeys
from tests.service.conftest import Running, running

ADMIN_KEY = "an-admin-key-of-thirty-two-characters-or-more"
KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}
OLD, NEW = "an-old-secret-of-thirty-two-characters", "a-new-secret-of-thirty-two-characters"
PATH = "/v1/jobs/0/images/0.png"


@pytest.fixture
def secured(redis_url: str) -> Iterator[Running]:
    with running(redis_url, auth="required", admin_key=ADMIN_KEY) as service:
        yield service


def signer(*secrets: str, ttl_s: int = 60) -> UrlSigner:
    return UrlSigner(SigningKeys(secrets, lambda: b"shared"), ttl_s)


def verifies(one: UrlSigner, signed: str, path: str = PATH) -> bool:
    return one.verifies(path, signed.removeprefix("?").encode())


def test_handed_out_url_is_read_without_a_key(secured: Running) -> None:
    body = {"prompt": "x", "n": 2, "response": "url"}
    images = secured.client.post("/v1/txt2img", json=body, headers=KEY).json()["images"]
    url = httpx.URL(images[0]["url"])
    assert url.path.endswith("/images/0.png")
    response = secured.client.get(url)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert secured.client.head(url).status_code == 200
    other = url.copy_with(path=httpx.URL(images[1]["url"]).path)
    job = url.copy_with(path=url.path.partition("/images")[0])
    for wrong in (
        other,
        job,
        url.copy_set_param("expires", "99999999999"),
        url.copy_with(query=b""),
    ):
        assert secured.client.get(wrong).status_code == 401
    assert secured.client.delete(job).status_code == 401


def test_without_keys_urls_are_plain(service: Running) -> None:
    body = {"prompt": "x", "response": "url"}
    image = service.client.post("/v1/txt2img", json=body).json()["images"][0]
    assert image["url"].endswith(".png")


def test_signature_expires() -> None:
    one = signer(ttl_s=60)
    signed = one.query(PATH)
    assert verifies(one, signed)
    with mock.patch("service.auth.signed_urls.time.time", return_value=time.time() + 61):
        assert not verifies(one, signed)


def test_former_secrets_still_verify() -> None:
    signed = signer(OLD).query(PATH)
    assert verifies(signer(NEW, OLD), signed)
    assert not verifies(signer(NEW), signed)
    assert not verifies(signer(OLD), signer(NEW, OLD).query(PATH))


@pytest.mark.parametrize(
    "query",
    ["", "?", "?signature=", "?expires=1", "?expires=x&signature=x", "?expires=9&signature=\xff"],
)
def test_malformed_signature(query: str) -> None:
    assert not signer(NEW).verifies(PATH, query.removeprefix("?").encode("latin-1"))


def test_lost_secret_is_written_back(redis_url: str) -> None:
    redis = connect(redis_url)
    first, second = SigningSecret(redis), SigningSecret(redis)
    secret = first.read()
    assert second.read() == secret
    redis.delete(SECRET)
    assert second.read() == secret
    assert first.read() == SigningSecret(redis).read() == secret
