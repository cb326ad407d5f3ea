"""Sends the webhooks that are due, and tries again those that fail."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool

from protocol.errors import DarkroomError, QueueUnavailable, StoreUnavailable
from protocol.queue.job import TERMINAL, JobState, JobView
from protocol.queue.webhooks import Delivery, WebhookEvent, WebhookQueue
from service.jobs.job_watcher import JobWatcher
from service.outbound import (
    OUTBOUND_ERRORS,
    Address,
    OutboundPolicy,
    is_machine,
    is_public,
    outbound,
)
from service.schemas.response_builder import ResponseBuilder
from service.settings import ServiceSettings, Webhooks
from service.telemetry.metrics import Metrics
from service.webhooks.signature import WebhookSigner

log = logging.getLogger(__name__)

# The addresses that may be called, by the setting.
OUTBOUND: dict[Webhooks, Callable[[Address], bool]] = {
    Webhooks.PUBLIC: is_public,
    Webhooks.ANY: is_machine,
}
MOST_AT_ONCE = 16  # calls of one process
MAX_ATTEMPTS = 9
GROWTH = 4  # of the delay from try to try: with a first one of 5 s, nine tries take 30 hours
LEASE_MARGIN_S = 30.0
PROGRESS_S = 0.5  # between calls about the progress of a job
GONE = HTTPStatus.GONE  # the receiver wants no more calls


@dataclass(frozen=True)
class Outcome:
    """The outcome of a try, for metrics and logs; `ends`: there is no further one."""

    name: str
    ends: bool


DELIVERED = Outcome("delivered", True)
REFUSED = Outcome("refused", True)
FAILED = Outcome("failed", False)
Body = Callable[[JobView, Delivery], bytes]  # of a call; it may block


@dataclass
class WebhookSender:
    """Sends webhooks, within `async with`. Several processes share the work.

    `bodies` makes the body of a call by the name of its form, and `retry_s` is the delay of the
    first retry.
    """

    queue: WebhookQueue
    watcher: JobWatcher
    signer: WebhookSigner
    policy: OutboundPolicy
    bodies: Mapping[str, Body]
    metrics: Metrics
    poll_s: float
    timeout_s: float
    retry_s: float
    _running: asyncio.Task[None] | None = None
    _calls: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> "WebhookSender":
        self._running = asyncio.create_task(self._run(), name="webhooks")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._running
        tasks = [self._running, *self._calls]  # calls cut off here are made again after their lease
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        """Keep up to `MOST_AT_ONCE` calls going, so that a slow receiver holds up no other."""
        lease_s = self.timeout_s + LEASE_MARGIN_S
        while True:
            if free := MOST_AT_ONCE - len(self._calls):
                with suppress(QueueUnavailable):  # tried again at the next poll
                    for delivery in await run_in_threadpool(self.queue.claim, free, lease_s):
                        call = asyncio.create_task(self._deliver(delivery))
                        self._calls.add(call)
                        call.add_done_callback(self._calls.discard)
            await asyncio.sleep(self.poll_s)

    async def _deliver(self, delivery: Delivery) -> None:
        """Make one try. During an outage of Redis the delivery is due again after its lease.

        So is one in a form that only a process of another version knows.
        """
        if delivery.target.form not in self.bodies:
            return
        try:
            body = delivery.body or await self._first_body(delivery)
            if body:
                outcome = await self._call(delivery, body, f"msg_{delivery.job_id}")
                await self._finish(delivery, outcome)
        except (QueueUnavailable, StoreUnavailable):
            pass
        except DarkroomError as error:
            log.error("webhook failed", extra={"job": delivery.job_id, "error": str(error)})

    async def _first_body(self, delivery: Delivery) -> bytes:
        """Return the body for the end of a job, and keep it; b"" if there is no such call.

        The state of a job whose record was lost meanwhile is not known, so nothing is told of it.
        """
        job = await self.watcher.view_or_last(delivery.job_id)
        told = await self._tell(job, delivery) if delivery.target.watches else ""
        if job.state not in TERMINAL:
            watched = delivery.target.watches and job.state is JobState.RUNNING
            delay_s = PROGRESS_S if watched else job.due_s or self.retry_s
            await run_in_threadpool(self.queue.watch, delivery.job_id, delay_s, told)
            return b""
        if WebhookEvent.END not in delivery.target.events:
            await run_in_threadpool(self.queue.remove, delivery.job_id)
            return b""
        body = await run_in_threadpool(self.bodies[delivery.target.form], job, delivery)
        return body if await run_in_threadpool(self.queue.keep_body, delivery, body) else b""

    async def _tell(self, job: JobView, delivery: Delivery) -> str:
        """Make the call about a job before its end, if one is due; return what was told last.

        A job that has ended was begun, too, and is told so first.
        """
        event = early_event(job, delivery)
        if event is None:
            return delivery.told
        shown, told = event
        body = await run_in_threadpool(self.bodies[delivery.target.form], shown, delivery)
        outcome = await self._call(delivery, body, f"msg_{job.id}_{told}")
        self.metrics.webhooks.labels(outcome.name).inc()
        return told

    async def _call(self, delivery: Delivery, body: bytes, message_id: str) -> Outcome:
        now = int(time.time())
        client = delivery.target.client
        signature = await run_in_threadpool(self.signer.headers, client, message_id, now, body)
        headers = {"Content-Type": "application/json", **signature}
        try:
            async with (
                asyncio.timeout(self.timeout_s),
                outbound(
                    "POST", delivery.target.url, self.policy, self.timeout_s, headers, body
                ) as response,
            ):
                if response.is_success:
                    return DELIVERED
                return REFUSED if response.status_code == GONE else FAILED
        except OUTBOUND_ERRORS:
            return FAILED

    async def _finish(self, delivery: Delivery, outcome: Outcome) -> None:
        attempts = delivery.attempts + 1
        given_up = not outcome.ends and attempts >= MAX_ATTEMPTS
        self.metrics.webhooks.labels("given-up" if given_up else outcome.name).inc()
        fields = {"job": delivery.job_id, "outcome": outcome.name, "attempt": attempts}
        log.info("webhook", extra=fields)
        if outcome.ends or given_up:
            await run_in_threadpool(self.queue.remove, delivery.job_id)
        else:
            delay_s = self.retry_s * GROWTH**delivery.attempts
            await run_in_threadpool(self.queue.postpone, delivery.job_id, delay_s, attempts)


@asynccontextmanager
async def webhook_sender(
    settings: ServiceSettings,
    queue: WebhookQueue,
    watcher: JobWatcher,
    signer: WebhookSigner,
    bodies: Mapping[str, Body],
    metrics: Metrics,
) -> AsyncIterator[None]:
    """Send webhooks while the context lasts, if the settings allow any.

    `bodies` makes the body of a call by the name of its form.
    """
    if settings.webhooks is Webhooks.OFF:
        yield
        return
    policy = OutboundPolicy(allowed=OUTBOUND[settings.webhooks], ports=range(1, 2**16))
    sender = WebhookSender(
        queue=queue,
        watcher=watcher,
        signer=signer,
        policy=policy,
        bodies=bodies,
        metrics=metrics,
        poll_s=settings.poll_s,
        timeout_s=settings.webhook_timeout_s,
        retry_s=settings.webhook_retry_s,
    )
    async with sender:
        yield


def early_event(job: JobView, delivery: Delivery) -> tuple[JobView, str] | None:
    """Return the job to show in a call before its end, and a word for the event; None: no call.

    The word differs from `delivery.told`, so that an event is told once.
    """
    events, step = delivery.target.events, job.progress.step if job.progress else 0
    if job.state is JobState.QUEUED:
        return None
    if WebhookEvent.START in events and not delivery.told:
        begun = JobView(id=job.id, state=JobState.RUNNING, warnings=job.warnings)
        return (job if job.state is JobState.RUNNING else begun), "start"
    told = f"step-{step}"
    if WebhookEvent.PROGRESS in events and job.state is JobState.RUNNING and step:
        return (job, told) if told != delivery.told else None
    return None


def webhook_body(job: JobView, responses: ResponseBuilder) -> bytes:
    """Return the body of a call: type, time, and the job as `GET /v1/jobs/{id}` shows it."""
    shown = responses.job_now(job).model_dump(mode="json", exclude_none=True)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    call = {"type": f"job.{job.state}", "timestamp": now, "data": shown}
    return json.dumps(call, ensure_ascii=False, separators=(",", ":")).encode()
