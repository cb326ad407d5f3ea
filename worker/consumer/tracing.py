"""One job's part of its trace: recorded while the job runs, exported when it ends."""

import time
from collections.abc import Iterable

from protocol.queue.job import Timings
from protocol.telemetry.tracing import PastSpan, Tracing
from worker.consumer.leases import Claim


class JobTrace:
    """The times of a job's phases, in seconds since 1970. Costs almost nothing without tracing.

    Spans are on this machine's clock, as is usual; the time in the queue is measured by Redis'.
    """

    def __init__(self, tracing: Tracing, claim: Claim) -> None:
        self._tracing = tracing
        self._claim = claim
        self._claimed_at = self._admitted_at = self._generated_at = time.time()
        self._queued_at = self._claimed_at - (claim.queued_s or 0.0)
        self._steps: list[tuple[float, int]] = []
        self._timings = Timings()

    def admitted(self) -> None:
        """Record that the engine takes the job."""
        self._admitted_at = time.time()

    def stepped(self, step: int) -> None:
        """Record that `step` of the job's steps are done."""
        if self._tracing.on:
            self._steps.append((time.time(), step))

    def generated(self, timings: Timings) -> None:
        """Record that the engine has finished the job's images."""
        self._generated_at, self._timings = time.time(), timings

    def ended(self, state: str) -> None:
        """Export the trace of a job that leaves this worker; `state` is its outcome."""
        if self._tracing.on:
            now = time.time()
            attributes = {"darkroom.job": self._claim.job_id, "darkroom.state": state}
            span = PastSpan("job", self._queued_at, now, attributes, (), tuple(self._phases(now)))
            self._tracing.record(span, self._claim.context.traceparent)

    def _phases(self, now: float) -> Iterable[PastSpan]:
        """Yield the spans of the phases that the job reached."""
        yield PastSpan("queue", self._queued_at, self._claimed_at)
        if self._steps:
            encoded_at = self._admitted_at + self._timings.encode
            yield PastSpan("encode", self._admitted_at, encoded_at)
            yield self._denoise()
        if self._generated_at > self._claimed_at:
            decoding_at = self._generated_at - self._timings.decode
            yield PastSpan("decode", decoding_at, self._generated_at)
            yield PastSpan("deliver", self._generated_at, now)

    def _denoise(self) -> PastSpan:
        last_at, steps = self._steps[-1]
        began = min(last_at - self._timings.denoise, self._steps[0][0])
        events = tuple((at, "step", {"darkroom.step": step}) for at, step in self._steps)
        return PastSpan("denoise", began, last_at, {"darkroom.steps": steps}, events)
