"""The queue of webhooks, in Redis: calls to clients' addresses when their jobs end.

A webhook that watches its job is due when the job begins, too, and again while it runs. Those calls
are made once and may be lost; the one for the end is not.

A delivery is made when its job is queued and is due when the job ends, in the script that ends it,
or at the job's deadline. It stays until it was delivered or given up, so that no call is lost; a
process that dies while it calls leaves it due again, so that a call may be repeated.
"""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError
from redis import Redis

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.connection.scripts import PipelinedScript
from protocol.record import Record, Text

DUE = key("webhooks")  # sorted: job id -> when it is due, on Redis' clock
KEPT_S = 3 * 86_400  # after the job's deadline, for all tries


class WebhookEvent(StrEnum):
    """The moments of a job at which its webhook is called."""

    START = "start"  # a worker has begun it
    PROGRESS = "progress"  # its progress has changed
    END = "end"


class WebhookTarget(Record):
    """The address that is called, the API's own URL for links in the call, and the job's client.

    `form` names the API whose form the calls have, "" for our own.
    """

    url: Text
    base_url: Text
    client: Text
    form: Text = ""
    events: tuple[WebhookEvent, ...] = (WebhookEvent.END,)

    @property
    def watches(self) -> bool:
        """Return True if there are calls before the job ends."""
        return any(event is not WebhookEvent.END for event in self.events)


@dataclass(frozen=True)
class Delivery:
    """A call that is due: `attempts` were made, with `body` if it is not empty.

    `told`: what the last call before the end was about, "" before the first. `lease`: the claim by
    which a process has it.
    """

    job_id: str
    target: WebhookTarget
    attempts: int
    body: bytes
    told: str = ""
    lease: str = ""


def delivery_key(job_id: str) -> str:
    """Return the key of a delivery: a hash of target, attempts, body and told."""
    return key("webhook", job_id)


class WebhookQueue:
    """Deliveries that are due, each for one process at a time. Raises `QueueUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._claim = PipelinedScript(redis, "webhooks_due")
        self._keep_body = PipelinedScript(redis, "webhook_keep_body")
        self._postpone = PipelinedScript(redis, "webhook_postpone")

    def claim(self, most: int, lease_s: float) -> list[Delivery]:
        """Return deliveries that are due; other processes get them after `lease_s` seconds."""
        with redis_errors():
            found = self._claim(most=most, lease_s=lease_s)
        deliveries = []
        for job_id, target, attempts, body, told, lease in found:
            try:
                read = WebhookTarget.model_validate_json(target)
            except ValidationError:  # written by another version
                self.remove(job_id.decode())
                continue
            texts = told.decode(), lease.decode()
            deliveries.append(Delivery(job_id.decode(), read, int(attempts), body, *texts))
        return deliveries

    def keep_body(self, delivery: Delivery, body: bytes) -> bool:
        """Keep the body of a call, so that every try sends the same.

        Return False if the delivery is no longer this process': nothing may be sent then.
        """
        with redis_errors():
            return bool(self._keep_body(id=delivery.job_id, lease=delivery.lease, data=body))

    def remove(self, job_id: str) -> None:
        """Remove a delivery that was made or is given up."""
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.zrem(DUE, job_id)
            pipe.delete(delivery_key(job_id))
            pipe.execute()

    def postpone(self, job_id: str, delay_s: float, attempts: int) -> None:
        """Make a delivery due again after `delay_s` seconds."""
        with redis_errors():
            self._postpone(id=job_id, delay_s=delay_s, attempts=attempts, told="")

    def watch(self, job_id: str, delay_s: float, told: str) -> None:
        """Make a delivery due again after `delay_s` seconds, or at once if its job has ended.

        `told`: what the last call was about.
        """
        with redis_errors():
            self._postpone(id=job_id, delay_s=delay_s, attempts=0, told=told, at_end=True)

    def waiting(self) -> int:
        """Return the number of deliveries of jobs that have ended or will."""
        with redis_errors():
            return int(self._redis.zcard(DUE))
