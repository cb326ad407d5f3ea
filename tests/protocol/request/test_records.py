"""Records and errors: their JSON, and their refusal of unknown fields."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocol import errors
from protocol.errors import DarkroomError, ErrorRecord, InvalidRequest, shorten
from protocol.queue.job import JobView
from protocol.record import Record
from protocol.request.fields import SEED_LIMIT
from protocol.request.generation_params import GenerationParams
from protocol.request.model_card import ModelCard
from protocol.request.request import GenerationRequest
from tests.protocol import records
from tests.protocol.records import CARD, requests, views

EXAMPLES: list[DarkroomError] = [
    errors.DarkroomError(),
    errors.InvalidRequest("width", 500, "a multiple of 8", "size-not-a-multiple"),
    errors.MalformedBody("body", "broken", "JSON", "invalid-json"),
    errors.PayloadTooLarge("body", 10, "at most 5"),
    errors.UnsupportedMediaType("Content-Type", "text/plain", "application/json"),
    errors.UnknownHost("Host", "example.org", "a name of this service"),
    errors.ForeignOrigin("Origin", "https://example.org", "this service's own"),
    errors.Unauthorized(),
    errors.Forbidden("admin"),
    errors.NotEnabled("this is not done", "DARKROOM_THIS"),
    errors.RateLimited("requests", 60, 1.5),
    errors.TooManyJobs(8),
    errors.TooManyInstalls(16, 16),
    errors.NotAcceptable("Accept", "image/gif", "image/png"),
    errors.JobDeleted("0" * 32),
    errors.OptionsChanged(),
    errors.NotRetryable("0" * 32, "running"),
    errors.InputsGone("0" * 32),
    errors.Overloaded(),
    errors.DecodingBusy(),
    errors.MalformedRequest("it ends early"),
    errors.TooManyUploads(16),
    errors.TooManyConnections(1000),
    errors.TooSlow(30.0, 16_000, 10.0),
    errors.ServiceStopping(),
    errors.NotFound("there is no such thing"),
    errors.UnknownJob("0" * 32),
    errors.UnknownBatch("0" * 32),
    errors.UnknownFile("0" * 32),
    errors.UnknownModel("sd15"),
    errors.UnknownInstall("0" * 32),
    errors.UnknownImage("0 of job 1"),
    errors.NotReady("no worker is running"),
    errors.QueueFull(9, 8, 1.5),
    errors.ClientQueueFull(9, 8),
    errors.WouldMissDeadline(30.0, 10.0, 20.0),
    errors.JobFailed("the images came out black"),
    errors.JobCancelled("0" * 32),
    errors.JobLost("0" * 32),
    errors.DeadlineExceeded(2.5),
    errors.QueueUnavailable(),
    errors.StoreUnavailable(),
]


@given(requests() | views | records.results | records.progress | records.reports | st.just(CARD))
def test_records_survive_json(record: Record) -> None:
    assert type(record).model_validate_json(record.model_dump_json()) == record
    assert type(record).model_validate(json.loads(record.model_dump_json())) == record


@given(requests())
def test_requests_survive_the_queue(request: GenerationRequest) -> None:
    kwargs = json.loads(json.dumps({"request": request.model_dump(mode="json")}))
    assert GenerationRequest.model_validate(kwargs["request"]) == request


@pytest.mark.parametrize("record", [CARD, JobView(id="0" * 32, state="queued")])
def test_records_are_closed_and_frozen(record: Record) -> None:
    with pytest.raises(ValidationError):
        type(record).model_validate({**record.model_dump(), "unknown": 1})
    with pytest.raises(ValidationError):
        record.unknown = 1  # type: ignore[attr-defined]


def test_every_error_has_an_example() -> None:
    def below(kind: type[DarkroomError]) -> set[type[DarkroomError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    # Those of the protocol: a program's own errors, as at its start, are not stored.
    stored = {kind for kind in below(DarkroomError) if kind.__module__ == DarkroomError.__module__}
    assert {type(error) for error in EXAMPLES} == stored


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_json(error: DarkroomError) -> None:
    record = ErrorRecord.model_validate_json(error.to_record().model_dump_json())
    again = DarkroomError.from_record(record)
    assert type(again) is type(error)
    assert (again.message, again.details) == (error.message, error.details)
    assert vars(again) == vars(error)


def test_error_of_another_version_becomes_the_base_class() -> None:
    record = ErrorRecord(kind="FromTheFuture", message="who knows", details={"x": 1})
    assert DarkroomError.from_record(record).message == "who knows"
    mangled = ErrorRecord(kind="JobFailed", message="who knows", details={"x": 1})
    assert DarkroomError.from_record(mangled).message == "who knows"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_invalid_values_are_shortened_and_json(value: object) -> None:
    shown = shorten(value)
    json.dumps(shown, allow_nan=False)
    assert len(str(shown)) <= errors.MAX_VALUE_LENGTH + 1
    assert len(InvalidRequest("field", value, "better").message) < 6 * errors.MAX_VALUE_LENGTH


def test_tracebacks_do_not_contain_user_data() -> None:
    with pytest.raises(ValidationError) as caught:
        ModelCard.model_validate({"name": {"canary": 1}})
    assert "canary" not in str(caught.value)


@given(requests(), st.integers(0, 63))
def test_each_image_has_its_own_seed(request: GenerationRequest, index: int) -> None:
    assert 0 <= request.image_seed(index) < SEED_LIMIT
    assert len({request.image_seed(index) for index in range(64)}) == 64
    assert request.image_seed(0) == request.seed


@given(requests(), st.sampled_from(["strength", "image_key", "mask_key"]))
def test_inputs_that_do_not_fit_the_task_are_refused(
    request: GenerationRequest, field: str
) -> None:
    fields = request.model_dump()
    other = {"strength": 0.5, "image_key": "inputs/" + "0" * 64, "mask_key": "inputs/" + "1" * 64}
    fields[field] = other[field] if fields[field] is None else None
    with pytest.raises(ValidationError):
        GenerationRequest.model_validate(fields)


def bounds(record: type[Record], field: str) -> list[object]:
    """Return the JSON schema of a field without its description and default, null left out."""
    schema = record.model_json_schema()["properties"][field]
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind != {"type": "null"}]
    shown = {"title", "description", "default", "examples"}
    return [{name: kind[name] for name in kind.keys() - shown} for kind in kinds]


def test_params_and_request_have_fields_of_the_same_bounds() -> None:
    # Differ: names become numbers, files become keys, -1 becomes a random seed.
    resolved = {"class_id", "boxes", "controls", "seed"}
    shared = GenerationParams.model_fields.keys() & GenerationRequest.model_fields.keys()
    for field in shared - resolved:
        assert bounds(GenerationParams, field) == bounds(GenerationRequest, field), field
        given = GenerationParams.model_fields[field].default
        stored = GenerationRequest.model_fields[field]
        assert stored.is_required() or stored.default == given or given is None, field
