"""Uploaded files: read by their address with a key or a signature, and used without a download."""

from collections.abc import Iterator

import httpx
import pytest

from protocol.auth.api_keys import KeyRecords
from protocol.clients.files import ClientFile, ClientFiles
from tests.service.conftest import Running, running
from tests.service.keys import ADMIN, ADMIN_KEY
from tests.service.sample_images import gradient, opened, packed, same

PNG = packed(gradient())


@pytest.fixture(scope="module")
def secured(redis_server: object) -> Iterator[Running]:
    url: str = redis_server.url  # type: ignore[attr-defined]
    with running(url, auth="required", admin_key=ADMIN_KEY) as service:
        yield service


def client_of(service: Running, key: dict[str, str]) -> str:
    """Return the id of a key, under which its files are kept."""
    token = key["Authorization"].removeprefix("Bearer ")
    [found] = [one for one in KeyRecords(service.worker.redis).all() if one in token]
    return found


@pytest.fixture
def kept(secured: Running, ann: dict[str, str]) -> ClientFile:
    files: ClientFiles = secured.app.state.services.files
    return files.add(client_of(secured, ann), "a.png", PNG, "image/png")


def path_of(file: ClientFile) -> str:
    return f"/v1/files/{file.id}/content.png"


def test_file_is_read_by_its_owner_and_the_operator_only(
    secured: Running, kept: ClientFile, ann: dict[str, str], bob: dict[str, str]
) -> None:
    for key in (ann, ADMIN):
        answer = secured.client.get(path_of(kept), headers=key)
        assert (answer.status_code, answer.content) == (200, PNG)
        assert answer.headers["content-type"] == "image/png"
        assert "sandbox" in answer.headers["content-security-policy"]
    again = ann | {"If-None-Match": answer.headers["etag"]}
    assert secured.client.get(path_of(kept), headers=again).status_code == 304
    assert secured.client.get(path_of(kept), headers=bob).status_code == 404
    assert secured.client.get(path_of(kept)).status_code == 401


def test_signed_address_needs_no_key(secured: Running, kept: ClientFile) -> None:
    query = secured.app.state.services.url_signer.query(path_of(kept))
    assert httpx.get(f"{secured.url}{path_of(kept)}{query}", timeout=60).content == PNG
    assert httpx.get(f"{secured.url}{path_of(kept)}{query}0", timeout=60).status_code == 401


@pytest.mark.parametrize("path", ["content.jpeg", "content.png.exe"])
def test_other_endings_are_unknown(
    secured: Running, kept: ClientFile, ann: dict[str, str], path: str
) -> None:
    answer = secured.client.get(f"/v1/files/{kept.id}/{path}", headers=ann)
    assert answer.status_code == 404


def img2img(service: Running, url: str, key: dict[str, str]) -> httpx.Response:
    body = {"prompt": "x", "strength": 0.5, "image_url": url, "response": "url"}
    return service.client.post("/v1/img2img", json=body, headers=key)


def test_address_of_a_file_or_result_is_an_input_of_its_owner(
    secured: Running, kept: ClientFile, ann: dict[str, str], bob: dict[str, str]
) -> None:
    """No request to another machine is allowed here: images are not taken by address."""
    answer = img2img(secured, f"{secured.url}{path_of(kept)}?signature=ignored", ann)
    assert answer.status_code == 200, answer.text
    image_url = answer.json()["images"][0]["url"]
    assert same(
        opened(httpx.get(image_url, timeout=60).content), gradient()
    )  # the fake worker returns it
    assert img2img(secured, image_url, ann).status_code == 200
    for url in (f"{secured.url}{path_of(kept)}", image_url):
        refused = img2img(secured, url, bob)
        assert (refused.status_code, refused.json()["field"]) == (422, "image_url")
        assert refused.json()["type"].endswith(":cannot-fetch")


@pytest.mark.parametrize(
    "path", ["/", "/v1/files/%2e%2e", "/v1/jobs", f"/v1/files/{'0' * 32}", "/v1/files/x/content"]
)
def test_other_addresses_of_the_service_are_no_images(
    secured: Running, ann: dict[str, str], path: str
) -> None:
    refused = img2img(secured, secured.url + path, ann)
    assert refused.json()["type"].endswith(":cannot-fetch")


def test_addresses_of_others_are_refused_as_before(secured: Running, ann: dict[str, str]) -> None:
    for url in ("http://127.0.0.1:1/v1/files/x", "http://[", "data:image/png;base64,AAAA"):
        assert img2img(secured, url, ann).json()["type"].endswith(":unknown-field")
