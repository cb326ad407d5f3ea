"""The parts of the Python client that send nothing: errors, events, retries, answers, inputs."""

from __future__ import annotations

import itertools

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_client import AsyncClient, Client, ProblemError, UnexpectedAnswer, errors
from darkroom_client.errors import BY_KIND, DarkroomError, Problem, ServerUnreachable, error_of
from darkroom_client.events import Event, EventDecoder
from darkroom_client.inputs import encoded
from darkroom_client.retries import LONGEST_WAIT_S, wait_before_retry
from protocol.errors import DarkroomError as ServerSideError
from protocol.errors import InvalidRequest
from service.schemas.problem import MEDIA_TYPE
from service.schemas.problem_responses import ERRORS
from service.schemas.problems import STATUSES, problem_of
from service.schemas.requests import REQUESTS

NAMES = {ServerSideError: "ServerError"}  # "internal" has the class of its status


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_each_error_of_the_server_has_its_class(error: ServerSideError) -> None:
    problem = problem_of(error, request_id="abc", job="/studio/v1/jobs/0123")

    def answer(request: httpx.Request) -> httpx.Response:
        content = problem.model_dump_json(exclude_none=True)
        headers = {"Content-Type": MEDIA_TYPE, "Retry-After": "7"}
        return httpx.Response(problem.status, content=content, headers=headers)

    transport = httpx.MockTransport(answer)
    caught: list[ProblemError] = []
    with Client(retries=0, http=httpx.Client(transport=transport)) as client:
        with pytest.raises(ProblemError) as one:
            client.models()
        caught.append(one.value)
    async with AsyncClient(retries=0, http=httpx.AsyncClient(transport=transport)) as waiting:
        with pytest.raises(ProblemError) as other:
            await waiting.models()
        caught.append(other.value)
    for found in caught:
        assert str(found) == problem.detail
        assert (found.status, found.kind) == (problem.status, problem.kind)
        assert (found.field, found.bound) == (problem.field, problem.bound)
        assert (found.job_id, found.problem.request_id) == ("0123", "abc")
        assert found.retry_after_s == 7
        assert type(found).__name__ == NAMES.get(type(error), type(error).__name__)


def test_each_kind_of_problem_has_a_class_of_its_name() -> None:
    kinds = {
        kind for kind_of_error, (_, kind) in STATUSES.items() if kind_of_error is not InvalidRequest
    }
    assert kinds - BY_KIND.keys() == {"internal"}
    assert all(kind.__doc__ for kind in BY_KIND.values())


def test_other_types_have_the_class_of_their_status() -> None:
    assert type(error_of(Problem(422, "size-not-a-multiple"))) is errors.InvalidRequest
    assert type(error_of(Problem(413, "image-too-large-to-decode"))) is errors.PayloadTooLarge
    assert type(error_of(Problem(502))) is errors.ServerError


EVENTS = (
    ': a comment\r\nevent: queued\r\nid: queued-0\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
    "data:\u2028two\n\nretry: 5000\nevent: problem\ndata: {}\n\ndata: unfinished"
)
DECODED = [
    Event("queued", '{"a":\n1}', "queued-0", None),
    Event("message", "\u2028two", None, None),
    Event("problem", "{}", None, 5.0),
]


@given(st.lists(st.integers(0, len(EVENTS)), max_size=8))
def test_events_are_the_same_in_all_pieces(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(EVENTS)]
    pieces = [EVENTS[start:end] for start, end in itertools.pairwise(ends)]
    decoder = EventDecoder()
    assert [event for piece in pieces for event in decoder.events(piece)] == DECODED


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (ServerUnreachable(), True),
        (error_of(Problem(429, "queue-full"), 3.0), True),
        (error_of(Problem(503, "service-stopping")), True),
        (error_of(Problem(502)), True),
        (error_of(Problem(429, "rate-limited"), LONGEST_WAIT_S + 1), False),
        (error_of(Problem(503, "job-lost")), False),
        (error_of(Problem(422, "malformed")), False),
        (error_of(Problem(500, "job-failed")), False),
        (UnexpectedAnswer(), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: DarkroomError, waits: bool) -> None:
    wait_s = wait_before_retry(error, 1)
    assert (wait_s is not None) == waits
    if isinstance(error, ProblemError) and error.retry_after_s and waits:
        assert wait_s == error.retry_after_s


def test_waits_grow_and_differ() -> None:
    waits = [[wait_before_retry(ServerUnreachable(), tried) for _ in range(50)] for tried in (0, 6)]
    first, last = ([wait for wait in some if wait is not None] for some in waits)
    assert max(first) < min(last)
    assert len(set(first)) > 10


STOPPING = """event: queued
id: queued-0
data: {"id": "0123", "state": "queued", "position": 0}

event: problem
data: {"type": "urn:darkroom:problem:service-stopping", "status": 503, "detail": "it is stopping"}
retry: 10

"""


def test_stream_that_ends_with_a_problem_is_continued_after_the_given_time() -> None:
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        return httpx.Response(200 if len(asked) < 2 else 204, text=STOPPING)

    with Client(http=httpx.Client(transport=httpx.MockTransport(answer))) as client:
        states = [status.state for status in client.job("0123").events()]
    assert (states, asked) == (["queued"], [None, "queued-0"])


def test_stream_that_ends_with_a_problem_raises_it_without_further_tries() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=STOPPING))
    with (
        Client(retries=0, http=httpx.Client(transport=transport)) as client,
        pytest.raises(errors.ServiceStopping, match="it is stopping") as caught,
    ):
        list(client.job("0123").events())
    assert caught.value.retry_after_s == 0.01


def test_every_file_of_a_request_is_sent_as_base64() -> None:
    files = {
        name
        for schema in REQUESTS.values()
        for name, field in schema.model_fields.items()
        if field.annotation is bytes or "bytes" in str(field.annotation)
    } - {"controls"}
    assert files >= {"image", "mask"}
    assert {name: encoded({name: b"x"}) for name in files} == {
        name: {name: "eA=="} for name in files
    }
    assert encoded({"controls": [{"model": "a", "image": b"x"}], "seed": None}) == {
        "controls": [{"model": "a", "image": "eA=="}]
    }
