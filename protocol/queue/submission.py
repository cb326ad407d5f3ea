"""The submission of a job: the arguments of `lua/submit.lua`, and its answer.

The script writes an RQ job: the hash that RQ's own enqueue would write, without the fields it
leaves empty. Our own fields are `client` (the owner), `task`, `work`, `place`, `deadline_at`,
`late` (see `lua/`) and, where a request has them, `warnings`, `inputs`, `idempotency`, and
`dialect` with `object` (`protocol.queue.dialect_jobs`).
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from protocol.errors import (
    ClientQueueFull,
    DarkroomError,
    DeadlineExceeded,
    JobDeleted,
    JobFailed,
    OptionsChanged,
    QueueFull,
    StoreUnavailable,
    TooManyJobs,
    WouldMissDeadline,
)
from protocol.queue.dialect_jobs import DialectObject
from protocol.queue.job import Warnings
from protocol.queue.limits import NO_LIMITS, JobLimits
from protocol.queue.webhooks import KEPT_S, WebhookTarget
from protocol.request.object_keys import new_job_id
from protocol.request.request import GenerationRequest, Priority
from protocol.settings import Settings
from protocol.storage.pins import pin_s
from protocol.telemetry.context import NO_CONTEXT, JobContext

POOL_PREFIX = "darkroom-"
GENERATE = "worker.jobs.generate"  # the one function that jobs name
REQUEST = "request"  # its one argument
WARNINGS_FIELD = "warnings"  # in the job's hash: a list of RequestWarning as JSON
WARNINGS = TypeAdapter(Warnings)
DESCRIPTION = "generate"  # RQ's default would show and log the prompt

# The call as RQ keeps it: function, object, arguments, keyword arguments.
CALL = f'["{GENERATE}",null,[],{{"{REQUEST}":'.encode(), b"}]"

MAX_JOB_BYTES = 1_000_000  # of a job's JSON; two of the longest prompts take a quarter of it
FAST = 1  # zlib's level: a prompt is short, and each request takes this time


@dataclass(frozen=True)
class OptionsVersion:
    """The version of a client's options, and the key of the hash that has them."""

    key: str
    version: str


@dataclass(frozen=True)
class Submission:
    """A job to submit. Submitting the same `job_id` again changes nothing.

    `client` is an opaque name of the client, "" for none. `idempotency` is the digest of its
    Idempotency-Key, "" for none. `options`: those by which the request was read, if they count.
    """

    request: GenerationRequest
    job_id: str = field(default_factory=new_job_id)
    client: str = ""
    context: JobContext = NO_CONTEXT
    limits: JobLimits = NO_LIMITS
    warnings: Warnings = ()
    webhook: WebhookTarget | None = None
    idempotency: str = ""
    options: OptionsVersion | None = None
    dialect_object: DialectObject | None = None


def queue_name(model: str, priority: Priority = Priority.NORMAL) -> str:
    """Return the name of the RQ queue of a model's jobs of one priority.

    The queue of normal priority has the name of the pool.
    """
    pool = f"{POOL_PREFIX}{model}"
    return pool if priority is Priority.NORMAL else f"{pool}:{priority.value}"


def model_of(pool: str) -> str:
    """Return the model of a pool."""
    return pool.removeprefix(POOL_PREFIX)


def arguments(submission: Submission, settings: Settings) -> dict[str, Any]:
    """Return the arguments of `lua/submit.lua`."""
    return {
        **shared_arguments(submission, settings),
        "id": submission.job_id,
        "work": submission.request.work,
        "fields": [
            *job_fields(submission, settings),
            *_warnings_field(submission.warnings),
            *(submission.dialect_object.job_fields() if submission.dialect_object else ()),
        ],
        "data": call_data(submission.request),
    }


def shared_arguments(submission: Submission, settings: Settings) -> dict[str, Any]:
    """Return the arguments of `lua/library/submission.lua`, which all jobs of a batch share."""
    request = submission.request
    return {
        "pool": queue_name(request.model),
        "lane": queue_name(request.model, request.priority),
        "client": submission.client,
        "max_waiting": settings.max_queue_length,
        "max_waiting_of_client": settings.max_queue_per_client,
        "deadline_s": request.deadline_s,
        "max_jobs": submission.limits.jobs,
        "rates": [rate.arguments(cost) for rate, cost in submission.limits.costs],
        "webhook": submission.webhook and submission.webhook.model_dump_json(),
        "webhook_watches": (submission.webhook and submission.webhook.watches) or None,
        "webhook_s": KEPT_S,
        "inputs": request.input_keys,
        "pin_s": pin_s(settings),
        "options": submission.options and submission.options.key,
        "options_version": submission.options and submission.options.version,
        "life_s": _life_s(request, settings),
    }


def job_fields(submission: Submission, settings: Settings) -> list[str]:
    """Return further fields of the job's hash, names and values in turn."""
    request = submission.request
    late = DeadlineExceeded(_life_s(request, settings))
    return [
        *("description", DESCRIPTION),
        *("timeout", str(settings.job_timeout_s)),
        *("result_ttl", str(settings.result_ttl_s)),
        *("failure_ttl", str(settings.failure_ttl_s)),
        *("meta", json.dumps(submission.context.model_dump(exclude_defaults=True))),
        *("late", late.to_record().model_dump_json()),
        *("task", request.task.value),
        *(("idempotency", submission.idempotency) if submission.idempotency else ()),
    ]


def call_data(request: GenerationRequest) -> bytes:
    """Return the call of a job as RQ keeps it."""
    return zlib.compress(request.model_dump_json().encode().join(CALL), FAST)


def read_request(data: bytes) -> GenerationRequest:
    """Parse a job's call as RQ keeps it: zlib of JSON of [name, object, args, kwargs].

    Raises JobFailed unless it is exactly what `arguments` writes.
    """
    try:
        inflating = zlib.decompressobj()
        text = inflating.decompress(data, MAX_JOB_BYTES)
        if inflating.unconsumed_tail:
            raise ValueError("too large")
        name, instance, args, kwargs = json.loads(text)
        if (name, instance, args, list(kwargs)) != (GENERATE, None, [], [REQUEST]):
            raise ValueError("not a call of ours")
        return GenerationRequest.model_validate(kwargs[REQUEST])
    except (ValueError, TypeError, RecursionError, zlib.error) as error:
        raise JobFailed("it does not carry a request that can be read") from error


def _life_s(request: GenerationRequest, settings: Settings) -> float:
    return min(request.deadline_s or settings.job_lifetime_s, settings.job_lifetime_s)


def outcome(
    submission: Submission, answer: Sequence[bytes | int], settings: Settings
) -> str | DarkroomError:
    """Return the job's id, or the error that refuses it, from the answer of `lua/submit.lua`."""
    match answer:
        case [b"queued" | b"known"]:
            return submission.job_id
        case [b"full", int() as waiting, bytes() as rate]:
            limit = settings.max_queue_length
            return QueueFull(waiting, limit, _seconds_until_room(waiting, limit, rate))
        case [b"client", int() as waiting, bytes() as rate]:
            limit = settings.max_queue_per_client
            return ClientQueueFull(waiting, limit, _seconds_until_room(waiting, limit, rate))
        case [b"late", bytes() as wait, bytes()]:
            deadline_s = submission.request.deadline_s or 0.0
            return WouldMissDeadline(float(wait), deadline_s, float(wait) - deadline_s)
        case [b"jobs"]:
            return TooManyJobs(submission.limits.jobs or 0)
        case [b"rate", int() as index, int() as wait_ms]:
            exceeded, _ = submission.limits.costs[index]
            return exceeded.error(wait_ms)
        case [b"deleted"]:
            return JobDeleted(submission.job_id)
        case [b"changed"]:
            return OptionsChanged()
        case [b"deleting"]:
            return StoreUnavailable()
        case _:
            raise ValueError(f"not an answer of the submit script: {answer!r}")


def _warnings_field(warnings: Warnings) -> tuple[str, ...]:
    if not warnings:
        return ()
    return WARNINGS_FIELD, WARNINGS.dump_json(warnings).decode()


def _seconds_until_room(waiting: int, limit: int, rate: bytes) -> float | None:
    """Return the seconds until there is room for one more, at `rate` jobs/s; None: unknown."""
    return (waiting - limit + 1) / float(rate) if float(rate) > 0 else None
