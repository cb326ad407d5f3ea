"""The events of a job. Each has its whole state at a moment, so none depends on another."""

from pydantic import BaseModel, Field

from protocol.queue.job import TERMINAL, JobView
from service.schemas.problem import Problem
from service.schemas.responses import JobResponse

PROBLEM = "problem"


class JobEvent(BaseModel):
    """A change of a job, as a message of a WebSocket. `event` is its state, or `problem`."""

    event: str
    id: str | None = Field(default=None, description="For `last_event_id`.")
    data: JobResponse | Problem


def event_id(view: JobView) -> str:
    """Return the id of a job's event: equal for equal states, in every API process."""
    parts: list[object] = [view.state.value]
    if view.state not in TERMINAL:
        parts += [] if view.position is None else [view.position]
        if progress := view.progress:
            parts += [progress.phase or "", progress.step, progress.steps, progress.previews]
    return "-".join(map(str, parts))
