"""Batches of jobs: queued all together or not at all, and counted together."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis

from protocol.connection.redis_client import redis_errors
from protocol.connection.scripts import PipelinedScript
from protocol.errors import DarkroomError, UnknownBatch
from protocol.queue.job import JobState
from protocol.queue.submission import (
    Submission,
    call_data,
    job_fields,
    outcome,
    shared_arguments,
)
from protocol.queue.views import state_of
from protocol.request.object_keys import is_job_id, new_job_id
from protocol.request.request import GenerationRequest
from protocol.settings import Settings

MAX_JOBS = 1000  # of one batch
INDEX_DIGITS = 4  # of a job's id, in hexadecimal


@dataclass(frozen=True)
class BatchView:
    """A batch at one moment: the number of its jobs, and how many are in each state.

    Jobs whose records have expired are in none.
    """

    id: str
    count: int
    states: dict[JobState, int]


def new_batch_id() -> str:
    """Return the id of a batch; those of its jobs differ in the last digits."""
    return new_job_id()


def batch_job_id(batch_id: str, index: int) -> str:
    """Return the id of a job of a batch, as the scripts compute it."""
    return f"{batch_id[:-INDEX_DIGITS]}{index:0{INDEX_DIGITS}x}"


class Batches:
    """The batches of all clients, in Redis. Raises `QueueUnavailable`."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._settings = settings
        self._submit = PipelinedScript(redis, "submit_batch", "limits", "submission")
        self._read = PipelinedScript(redis, "batch")

    def submit(self, first: Submission, requests: Sequence[GenerationRequest]) -> None:
        """Queue a job for each of `requests`, or none.

        `first` is the submission of the first; its id is that of the batch, and its limits are
        those of all. Inputs are pinned for the jobs that need them. Submitting a batch again is
        harmless. Raises what `JobQueue.submit` does.
        """
        settings = self._settings
        keep = settings.job_lifetime_s + max(settings.result_ttl_s, settings.failure_ttl_s)
        with redis_errors():
            answer = self._submit(
                **shared_arguments(first, settings) | {"inputs": _all_inputs(requests)},
                batch=first.job_id,
                works=[request.work for request in requests],
                inputs_of=[request.input_keys for request in requests],
                fields=job_fields(first, settings),
                keep=keep,
                data=[call_data(request) for request in requests],
            )
        refused = outcome(first, answer, settings)
        if isinstance(refused, DarkroomError):
            raise refused

    def view(self, batch_id: str, client: str | None = None) -> BatchView:
        """Return the batch. Raises `UnknownBatch` if it does not exist, or is another client's."""
        if not is_job_id(batch_id):
            raise UnknownBatch(batch_id)
        with redis_errors():
            found = self._read(batch=batch_id)
        if not found or (client is not None and found[0].decode() != client):
            raise UnknownBatch(batch_id)
        _, count, *numbers = found
        states = dict.fromkeys(JobState, 0)
        for status, number in zip(numbers[::2], numbers[1::2], strict=True):
            if (state := state_of(status.decode())) is not None:
                states[state] += number
        return BatchView(batch_id, count, states)


def _all_inputs(requests: Sequence[GenerationRequest]) -> list[str]:
    return list(dict.fromkeys(key for request in requests for key in request.input_keys))
