"""The stream of a prediction: its logs, its images and its end, with and without a key."""

import re

import httpx
import pytest

from protocol.errors import JobFailed
from tests.service.conftest import Running
from tests.service.dialects.replicate.asking import WAIT, create, generated

EVENT = re.compile(r"event: (\w+)\n((?:data: ?.*\n)+)id: (\S+)\n")


def events(text: str) -> list[tuple[str, str]]:
    """Return the events of a stream: name and data; each has an id of its own."""
    found = EVENT.findall(text)
    assert len({event_id for *_, event_id in found}) == len(found) > 0
    return [(name, re.sub("^data: ?", "", data, flags=re.M)[:-1]) for name, data, _ in found]


def test_stream_has_logs_images_and_the_end(replicate: Running) -> None:
    found, _ = generated(replicate, num_outputs=2)
    text = httpx.get(
        found["urls"]["stream"], headers={"Accept": "text/event-stream"}, timeout=60
    ).text
    outputs = [("output", url) for url in found["output"]]
    assert events(text) == [("logs", found["logs"]), *outputs, ("done", "{}")]


def test_stream_follows_a_prediction(replicate: Running) -> None:
    """The logs of the events together are those of the prediction."""
    replicate.worker.hold_at_step = 2
    replicate.worker.hold()
    try:
        found = create(replicate, {"prompt": "x", "num_inference_steps": 4}).json()
        parts = []
        with httpx.stream("GET", found["urls"]["stream"], timeout=60) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            for part in response.iter_text():
                parts.append(part)
                if "2/4" in part:
                    replicate.worker.release()
    finally:
        replicate.worker.release()
    told = events("".join(parts))
    assert [name for name, _ in told if name != "logs"] == ["output", "done"]
    last = replicate.client.get(f"/v1/predictions/{found['id']}").json()
    assert "".join(data for name, data in told if name == "logs") == last["logs"]


def test_failed_and_cancelled_predictions_end_their_stream(replicate: Running) -> None:
    replicate.worker.error = JobFailed("no reason")
    try:
        failed = create(replicate, {"prompt": "x"}, WAIT).json()
    finally:
        replicate.worker.error = None
    told = events(httpx.get(failed["urls"]["stream"], timeout=60).text)
    assert told == [("error", failed["error"]), ("done", '{"reason":"error"}')]
    replicate.worker.hold()
    try:
        cancelled = create(replicate, {"prompt": "x"}).json()
        replicate.client.post(f"/v1/predictions/{cancelled['id']}/cancel")
    finally:
        replicate.worker.release()
    told = events(httpx.get(cancelled["urls"]["stream"], timeout=60).text)
    assert told == [("done", '{"reason":"canceled"}')]


@pytest.mark.parametrize("changed", ["0" * 32, None])
def test_address_of_a_stream_is_signed(
    secured: Running, ann: dict[str, str], changed: str | None
) -> None:
    found = create(secured, {"prompt": "x"}, ann | WAIT).json()
    url = found["urls"]["stream"]
    assert events(httpx.get(url, timeout=60).text)[-1] == ("done", "{}")
    other = url.replace(found["id"], changed) if changed else url.partition("?")[0]
    assert httpx.get(other, timeout=60).status_code == 401
