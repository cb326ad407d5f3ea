"""A simple model of the waiting jobs, to compare the queue's scripts with."""

from dataclasses import dataclass, field

from protocol.request.request import Priority


@dataclass
class Lane:
    """Waiting jobs of one priority, by start-time fair queuing."""

    entries: list[tuple[float, int, str]] = field(default_factory=list)  # tag, arrival, job
    tag: float = 0.0
    ends: dict[str, float] = field(default_factory=dict)  # by client
    arrivals: int = 0
    passed: int = 0

    def join(self, job_id: str, client: str, work: float) -> None:
        tag = max(self.tag, self.ends.get(client, 0.0))
        self.ends[client] = tag + work
        self._enter(tag, job_id)

    def join_in_front(self, job_id: str) -> None:
        self._enter(min([0.0, *(tag for tag, _, _ in self.entries)]) - 1, job_id)

    def leave(self, job_id: str) -> None:
        self.entries = [entry for entry in self.entries if entry[2] != job_id]
        if not self.entries:
            # An empty lane owes no client anything.
            self.tag, self.ends, self.arrivals, self.passed = 0.0, {}, 0, 0

    def _enter(self, tag: float, job_id: str) -> None:
        self.arrivals += 1
        self.entries = sorted([*self.entries, (tag, self.arrivals, job_id)])


class ExpectedQueue:
    """All waiting jobs of a model. `patience`: how often a lane with jobs is passed over."""

    def __init__(self, patience: int) -> None:
        self.lanes = {priority: Lane() for priority in Priority}
        self._patience = patience

    def __contains__(self, job_id: str) -> bool:
        return job_id in self.ids

    @property
    def ids(self) -> list[str]:
        return [entry[2] for lane in self.lanes.values() for entry in lane.entries]

    def leave(self, job_id: str) -> None:
        for lane in self.lanes.values():
            if any(entry[2] == job_id for entry in lane.entries):
                lane.leave(job_id)

    def next(self) -> str | None:
        lane = self._turn()
        return lane.entries[0][2] if lane else None

    def take(self) -> None:
        """Remove the next job, which a worker claims."""
        turn = self._turn()
        assert turn is not None
        lower = False
        for lane in self.lanes.values():
            if lower and lane.entries:
                lane.passed += 1
            lower = lower or lane is turn
        turn.passed = 0
        tag, _, job_id = turn.entries[0]
        turn.tag = max(turn.tag, tag)
        turn.leave(job_id)

    def _turn(self) -> Lane | None:
        busy = [lane for lane in self.lanes.values() if lane.entries]
        turn = next(iter(busy), None)
        for lane in busy[1:]:
            assert turn is not None
            if lane.passed >= self._patience and lane.passed > turn.passed:
                turn = lane
        return turn
