"""Files as downloads: names, endings, entity tags; also of the pages."""

import re
from typing import Any

import httpx
import pytest

from tests.service.conftest import CARD, Running, running

SOUND = CARD.model_copy(update={"outputs": ("image", "sound")})


def finished(service: Running, **fields: object) -> dict[str, Any]:
    body = {"prompt": "x", "seed": 41, "response": "url", **fields}
    response = service.client.post("/v1/txt2img", json=body)
    assert response.status_code == 200, response.text
    image: dict[str, Any] = response.json()["images"][0]
    return image


@pytest.mark.parametrize(
    ("ending", "content_type"),
    [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp"), ("avif", "image/avif")],
)
def test_image_has_a_name_and_an_ending(service: Running, ending: str, content_type: str) -> None:
    url = finished(service, output_format=ending)["url"]
    assert re.fullmatch(rf"{service.url}/v1/jobs/[0-9a-f]{{32}}/images/0\.{ending}", url)
    for address in (url, url.removesuffix(f".{ending}")):
        response = service.client.get(address)
        assert response.headers["content-type"] == content_type
        name = f'inline; filename="darkroom-41.{ending}"'
        assert response.headers["content-disposition"] == name
    other = "png" if ending == "webp" else "webp"
    assert service.client.get(url.replace(f".{ending}", f".{other}")).status_code == 404
    assert service.client.get(url.replace(f".{ending}", ".gif")).status_code == 422


def test_extra_has_a_name_and_an_ending(redis_url: str) -> None:
    with running(redis_url, SOUND) as service:
        image = finished(service, audio_format="flac")
        [extra] = image["extras"]
        url: str = extra["url"]
        assert url.endswith("/images/0/sound.flac")
        for address in (url, url.removesuffix(".flac")):
            response = service.client.get(address)
            assert response.headers["content-type"] == "audio/flac"
            name = 'inline; filename="darkroom-41-sound.flac"'
            assert response.headers["content-disposition"] == name
        assert service.client.get(url.replace("flac", "wav")).status_code == 404


def is_unchanged(client: httpx.Client, url: str, tag: str) -> bool:
    response = client.get(url, headers={"If-None-Match": tag})
    assert response.status_code in (200, 304)
    assert response.headers["etag"]
    assert response.headers["cache-control"]
    assert (response.content == b"") == (response.status_code == 304)
    return response.status_code == 304


def test_known_content_is_not_sent_again(service: Running) -> None:
    image = finished(service)["url"]
    for path in (image, image.removesuffix(".png"), "/", "/docs", "/openapi.json"):
        tag = service.client.get(path).headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', f'"other",W/{tag}', "*"):
            assert is_unchanged(service.client, path, known), (path, known)
        for unknown in ('"other"', tag.strip('"'), "", f"x{tag}"):
            assert not is_unchanged(service.client, path, unknown), (path, unknown)


def test_page_files_are_kept_and_checked(service: Running) -> None:
    for name in ("studio/styles/theme.css", "studio/main.js"):
        response = service.client.get(f"/pages/{name}")
        assert response.headers["cache-control"] == "no-cache"
        assert is_unchanged(service.client, f"/pages/{name}", response.headers["etag"])


def test_files_of_different_images_have_different_tags(service: Running) -> None:
    tags = [service.client.get(finished(service)["url"]).headers["etag"] for _ in range(2)]
    assert len(set(tags)) == 2
