"""Request and response schemas of batches."""

from typing import Annotated

from pydantic import BaseModel, Field

from protocol.queue.batches import MAX_JOBS
from protocol.queue.job import JobState
from protocol.request.fields import Prompt
from service.schemas.requests import TaskRequest
from service.schemas.responses import JobResponse


class BatchRequest(TaskRequest):
    """The parameters of all jobs, and a prompt for each."""

    prompts: Annotated[tuple[Prompt, ...], Field(min_length=1, max_length=MAX_JOBS)] = Field(
        description="A prompt for each job. Without a seed, each job has a random one.",
        examples=[["a red heart", "a green heart"]],
    )


class BatchResponse(BaseModel):
    """A batch: the number of its jobs, how many are in each state, and a page of them.

    `next` is the cursor of the next page; without it, this is the last one. Jobs whose records have
    expired are in no state and on no page.
    """

    id: str
    count: int
    states: dict[JobState, int]
    jobs: list[JobResponse]
    next: str | None = None
