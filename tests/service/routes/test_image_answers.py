"""Answers that are the image file itself, as the `Accept` header asks for."""

import io
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.datastructures import Headers

from protocol.errors import JobFailed, NotAcceptable
from protocol.request.object_keys import OutputFormat
from service.schemas.accepted import Accepted
from tests.service.conftest import Running, running
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url) as service:
        yield service


def post(service: Running, accept: str, **fields: object) -> httpx.Response:
    headers = {"Accept": accept}
    return service.client.post("/v1/txt2img", json={"prompt": "x", **fields}, headers=headers)


@pytest.mark.parametrize("kind", OutputFormat)
def test_accepted_image_is_the_response(service: Running, kind: OutputFormat) -> None:
    response = post(service, kind.content_type, seed=7)
    assert response.headers["content-type"] == kind.content_type
    assert response.headers["content-disposition"] == f'inline; filename="darkroom-7.{kind}"'
    assert response.headers["darkroom-seed"] == "7"
    assert response.headers["darkroom-finish-reason"] == "success"
    assert "denoise=0.500" in response.headers["darkroom-timings"]
    assert response.headers["cache-control"] == "no-store"
    assert Image.open(io.BytesIO(response.content)).format == kind.upper()
    job = service.client.get(f"/v1/jobs/{response.headers['darkroom-job']}").json()
    assert httpx.get(job["result"]["images"][0]["url"], timeout=60).content == response.content


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("text/html", "application/json"),
        ("application/json, image/png", "application/json"),
        ("image/png;q=0.5, application/json", "application/json"),
        ("image/png;q=0", "application/json"),
        ("image/png, */*;q=0.1", "image/png"),
        ("image/png, */*", "image/png"),
        ("IMAGE/WEBP", "image/webp"),
        ("image/png;q=0.4, image/webp;q=0.8", "image/webp"),
        ("image/*", "image/png"),
        ("image/*, image/png;q=0", "image/jpeg"),
        ("image/gif, image/webp;q=0.1", "image/webp"),
        ("image/gif, application/json;q=0.1", "application/json"),
    ],
)
def test_quality_values_decide(service: Running, accept: str, content_type: str) -> None:
    if accept == "image/png;q=0":  # nothing but an image is named, and it is refused
        assert post(service, accept).status_code == 406
    else:
        assert post(service, accept).headers["content-type"] == content_type


def test_format_of_the_body_counts_if_it_is_accepted(service: Running) -> None:
    response = post(service, "image/png, image/webp;q=0.1", output_format="webp")
    assert response.headers["content-type"] == "image/webp"


@pytest.mark.parametrize(
    ("fields", "field", "problem"),
    [
        ({"n": 2}, "n", "several-images-in-one-file"),
        ({"output_format": "webp"}, "output_format", "format-not-accepted"),
        ({"response": "url"}, "response", "response-is-a-file"),
    ],
)
def test_contradictions_are_refused_in_words(
    service: Running, fields: dict[str, object], field: str, problem: str
) -> None:
    response = post(service, "image/png", **fields)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.json()["field"], problem) == (field, response.json()["type"].split(":")[-1])
    assert "image/png" in response.json()["bound"]


def test_unknown_image_type_is_not_acceptable(service: Running) -> None:
    response = post(service, "image/gif")
    assert response.status_code == 406
    assert (response.json()["field"], response.json()["value"]) == ("Accept", "image/gif")
    assert "image/webp" in response.json()["bound"]


def test_accepted_job_is_json_for_a_client_that_does_not_wait(service: Running) -> None:
    headers = {"Accept": "image/png", "Prefer": "respond-async"}
    response = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (202, "application/json")


def test_failure_is_a_problem(service: Running) -> None:
    service.worker.error = JobFailed("the images are black")
    try:
        response = post(service, "image/png")
    finally:
        service.worker.error = None
    assert (response.status_code, response.headers["content-type"]) == (
        500,
        "application/problem+json",
    )


RANGES = st.sampled_from(
    [*(kind.content_type for kind in OutputFormat), "image/*", "*/*", "application/json", "a/b"]
)
QUALITIES = st.sampled_from(["", ";q=0", ";q=0.001", ";q=0.5", ";q=1.000", ";v=1;q=0.9", ";q=x"])


@given(st.lists(st.tuples(RANGES, QUALITIES), max_size=6), st.text(max_size=40))
def test_any_header_is_read(ranges: list[tuple[str, str]], noise: str) -> None:
    """A format that is chosen has a quality above 0, by its name or by a wildcard."""
    text = ", ".join(name + quality for name, quality in ranges) + noise
    try:
        accepted = Accepted.from_headers(Headers({"accept": text}))
    except NotAcceptable as error:
        assert "image/" in text.lower()
        assert "image/png" in error.bound
        return
    except UnicodeEncodeError:  # no header has such letters
        return
    for kind in accepted.formats:
        assert any(name in text for name in (kind.content_type, "image/*", "*/*"))
