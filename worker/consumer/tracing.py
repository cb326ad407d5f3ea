"""One job's part of its trace: noted while it goes on, told when it is over."""

import time
from collections.abc import Iterable

from protocol.telemetry.tracing import PastSpan, Tracing
from worker.consumer.leases import Claim
from worker.interfaces import EngineTimings


class JobTrace:
    """Moments of a job, in seconds since 1970. Costs next to nothing while tracing is off."""

    def __init__(self, tracing: Tracing, claim: Claim, queued_at: float | None) -> None:
        self._tracing = tracing
        self._claim = claim
        self._claimed_at = time.time()
        self._queued_at = queued_at or self._claimed_at
        self._admitted_at = self._claimed_at
        self._steps: list[tuple[float, int]] = []
        self._drawn_at = self._claimed_at
        self._spent = EngineTimings()

    def admitted(self) -> None:
        """The engine begins with it."""
        self._admitted_at = time.time()

    def stepped(self, step: int) -> None:
        """So many of its steps are done."""
        if self._tracing.on:
            self._steps.append((time.time(), step))

    def drawn(self, spent: EngineTimings) -> None:
        """Its pictures have left the engine."""
        self._drawn_at, self._spent = time.time(), spent

    def ended(self, state: str) -> None:
        """It is over for this worker; `state` says how."""
        if self._tracing.on:
            now = time.time()
            attributes = {"darkroom.job": self._claim.job_id, "darkroom.state": state}
            span = PastSpan("job", self._queued_at, now, attributes, (), tuple(self._parts(now)))
            self._tracing.record(span, self._claim.context.traceparent)

    def _parts(self, now: float) -> Iterable[PastSpan]:
        """As far as it came."""
        yield PastSpan("queue", self._queued_at, self._claimed_at)
        if self._steps:
            encoded_at = self._admitted_at + self._spent.encode
            yield PastSpan("encode", self._admitted_at, encoded_at)
            yield self._denoise()
        if self._drawn_at > self._claimed_at:
            yield PastSpan("decode", self._drawn_at - self._spent.decode, self._drawn_at)
            yield PastSpan("deliver", self._drawn_at, now)

    def _denoise(self) -> PastSpan:
        last_at, steps = self._steps[-1]
        began = min(last_at - self._spent.denoise, self._steps[0][0])
        events = tuple((at, "step", {"darkroom.step": step}) for at, step in self._steps)
        return PastSpan("denoise", began, last_at, {"darkroom.steps": steps}, events)
