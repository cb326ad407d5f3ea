"""Limits of uploads: their pace, and how many one client may send at once."""

import time
from contextlib import ExitStack, closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import TooManyUploads
from service.middleware.body_limit import UploadCounts
from service.middleware.upload_pace import UploadPace
from service.settings import ServiceSettings
from tests.service.conftest import running
from tests.service.raw_http import BODY, HEAD, connected, read_until, responses_of

PACE = UploadPace.from_settings(ServiceSettings())


def test_default_pace() -> None:
    assert (PACE.silence_s, PACE.grace_s, PACE.min_rate) == (30.0, 10.0, 16_000)


@given(st.integers(16_000, 10**9), st.integers(1, 10_000))
def test_steady_upload_is_never_cut_off(rate: int, seconds: int) -> None:
    """It may take hours: only silence ends it."""
    assert PACE.patience_s(seconds, rate * seconds) >= 0
    assert PACE.patience_s(seconds, rate * seconds) <= PACE.silence_s


@given(st.integers(0, 15_999), st.floats(10.0, 10_000.0))
def test_upload_below_the_rate_is_cut_off(rate: int, seconds: float) -> None:
    assert PACE.patience_s(seconds, int(rate * seconds)) <= 0


@given(st.integers(0, 10**9), st.floats(0.0, 9.0))
def test_rate_is_not_demanded_at_first(received: int, seconds: float) -> None:
    assert PACE.patience_s(seconds, received) >= 1


def test_clients_are_counted_apart() -> None:
    counts = UploadCounts(2)
    for _ in range(2):
        counts.begin("one")
    with pytest.raises(TooManyUploads, match="2 request bodies at once"):
        counts.begin("one")
    counts.begin("other")
    counts.end("one")
    counts.begin("one")


def test_uploads_of_one_client_are_bounded(redis_url: str) -> None:
    """A further one is refused with 429, until one of the others has ended or is given up."""
    head = HEAD + b"Content-Length: %d\r\n" % len(BODY)
    with running(redis_url, max_uploads_per_client=2) as service, ExitStack() as stack:
        first, second = (stack.enter_context(closing(connected(service))) for _ in range(2))
        for connection in (first, second):
            connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
            read_until(connection, b"\r\n\r\n")  # the service has begun to read the body
        refused = service.client.post("/v1/txt2img", json={"prompt": "x"})
        assert refused.status_code == 429
        assert refused.json()["type"].endswith(":too-many-uploads")
        assert int(refused.headers["retry-after"]) > 0
        assert service.client.get("/v1/models").status_code == 200
        first.sendall(BODY)
        assert read_until(first, b"\r\n").startswith(b"HTTP/1.1 200")
        service.client.post("/v1/txt2img", json={"prompt": "x"}).raise_for_status()
        second.close()
        third = stack.enter_context(closing(connected(service)))
        third.sendall(head + b"Connection: close\r\n\r\n" + BODY)
        assert [response.status for response in responses_of(third)] == [200]


def test_slow_upload_may_take_long(redis_url: str) -> None:
    """It takes several times the silence and the time after which a rate is demanded."""
    pace = {"upload_silence_s": 5.0, "upload_grace_s": 0.05, "upload_min_rate": 1}
    with running(redis_url, **pace) as service, closing(connected(service)) as connection:
        body = BODY + b" " * 200
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 20):
            connection.sendall(body[start : start + 20])
            time.sleep(0.05)
        (response,) = responses_of(connection)
    assert response.status == 200
