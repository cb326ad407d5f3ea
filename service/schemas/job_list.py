"""The query and the response of a list of jobs."""

import base64
import re
from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from protocol.errors import InvalidRequest
from protocol.queue.job import JobState
from protocol.queue.job_list import JobFilter, Place
from protocol.request.fields import Name
from protocol.request.tasks import Task
from service.schemas.responses import JobResponse

MAX_LIMIT = 100
PLACE = re.compile(r"([0-9]{1,17})\.([0-9a-f]{32})")


class ListedJobResponse(JobResponse):
    """A job in a list."""

    model: str
    task: Task | None = None
    created_at: datetime = Field(description="The time of its submission.")


class JobListResponse(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[ListedJobResponse]
    next_cursor: str | None = Field(
        default=None,
        description="The `cursor` of the next page; there is none after the last one. A page may "
        "be short, or empty, and not the last.",
    )


def _place(text: str) -> str:
    place_of(text)
    return text


class JobQuery(BaseModel):
    """The page to return, and the jobs that it may have."""

    limit: int = Field(default=20, ge=1, le=MAX_LIMIT, description="Jobs on the page, at most.")
    cursor: Annotated[str, AfterValidator(_place)] | None = Field(
        default=None, max_length=100, description="The `next_cursor` of the page before."
    )
    state: list[JobState] | None = Field(
        default=None, max_length=len(JobState), description="States of the jobs; by default any."
    )
    model: Name | None = Field(default=None, description="The name of a model, not an alias.")
    task: Task | None = None
    created_after: AwareDatetime | None = Field(
        default=None, description="A time with a time zone; the job was submitted later."
    )
    created_before: AwareDatetime | None = Field(
        default=None, description="A time with a time zone; the job was submitted earlier."
    )

    @property
    def filter(self) -> JobFilter:
        return JobFilter(self.state, self.model, self.task, self.created_after, self.created_before)


ListQuery = Annotated[JobQuery, Query()]


def cursor_of(place: Place) -> str:
    """Return a place in the list as text for clients, who need not understand it."""
    return base64.urlsafe_b64encode(f"{place.at}.{place.job_id}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """Return the place of a cursor. Raises `InvalidRequest`."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        match = PLACE.fullmatch(text)
    except ValueError:
        match = None
    if match is None:
        raise InvalidRequest("cursor", cursor, "the next_cursor of a page", "bad-cursor")
    return Place(int(match[1]), match[2])
