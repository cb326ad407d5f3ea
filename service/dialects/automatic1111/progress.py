"""Progress and interruption: of the tasks of the client that asks, never of another's."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from protocol.clients.tasks import ClientTask
from protocol.queue.job import TERMINAL, JobState, JobView
from service.auth.api_keys import User
from service.dialects.automatic1111.description import NULL, READ, WRITE, body, errors
from service.dialects.automatic1111.requests import TaskProgress, parse_body
from service.dialects.automatic1111.responses import (
    PendingTasksAnswer,
    ProgressAnswer,
    ProgressState,
    TaskProgressAnswer,
)
from service.dialects.automatic1111.timed_route import PREFIX, TimedRoute
from service.dialects.lenient import read_json
from service.routes.deps import Services, ServicesDep, UserDep
from service.schemas.response_builder import previews_of

router = APIRouter(prefix=PREFIX, route_class=TimedRoute, responses=errors(*READ))
internal = APIRouter(prefix="/internal", route_class=TimedRoute, responses=errors(*READ))

BEGUN = 0.01  # the progress of a task that has not made a step
DATA_URI = "data:image/jpeg;base64,"


@dataclass(frozen=True)
class _Active:
    """A task of which not all jobs have ended, its jobs in order, and its age in seconds."""

    task: ClientTask
    jobs: Sequence[JobView]
    age_s: float

    @property
    def runs(self) -> bool:
        """True from the beginning of its first job."""
        return any(job.state is not JobState.QUEUED for job in self.jobs)

    @property
    def job(self) -> JobView:
        """The first job that runs, else the first that waits."""
        running = (job for job in self.jobs if job.state is JobState.RUNNING)
        waiting = (job for job in self.jobs if job.state is JobState.QUEUED)
        return next(running, None) or next(waiting)

    @property
    def steps(self) -> tuple[int, int]:
        """Steps done, and in total, of the job that runs; 0 of 0 if they are unknown."""
        return _steps(self.job)

    @property
    def share(self) -> float:
        """The share of all steps that is done."""
        return sum(map(_share, self.jobs)) / len(self.jobs)

    @property
    def place(self) -> str:
        """The place in the queue, in the words of AUTOMATIC1111."""
        ahead = self.job.position or 0
        return f"In queue: {ahead + 1}/{ahead + 1}"


def _steps(job: JobView) -> tuple[int, int]:
    found = job.progress if job.state is JobState.RUNNING else None
    return (found.step, found.steps) if found else (0, 0)


def _share(job: JobView) -> float:
    done, total = _steps(job)
    return 1.0 if job.state in TERMINAL else done / total if total else 0.0


@router.get("/progress", responses=errors(422))
async def webui_progress(
    services: ServicesDep, user: UserDep, skip_current_image: bool = False
) -> ProgressAnswer:
    """Get the progress of the client's current task; without one, it is 0 of 0 jobs.

    There is a preview if the option `live_previews_enable` was on when the task began.
    """
    current = _current(await _active(services, user))
    if current is None:
        return ProgressAnswer()
    done, total = current.steps
    progress = min(1.0, BEGUN + current.share)
    preview = None if skip_current_image else await _preview(services, current.job)
    return ProgressAnswer(
        progress=progress,
        eta_relative=current.age_s / progress - current.age_s,
        state=ProgressState(
            job=current.task.kind, job_count=1, sampling_step=done, sampling_steps=total
        ),
        current_image=preview,
        textinfo=None if current.runs else current.place,
        current_task=current.task.id,
    )


@router.post("/interrupt")
async def webui_interrupt(services: ServicesDep, user: UserDep) -> dict[str, None]:
    """Stop the tasks of the client that run, or the first that waits if none runs."""
    await _interrupt(services, user)
    return {}


@router.post("/skip", responses=NULL)
async def webui_skip(services: ServicesDep, user: UserDep) -> None:
    """Stop the client's current task: its images are made together, so none remain to do."""
    await _interrupt(services, user)


@internal.post(
    "/progress",
    openapi_extra=body(TaskProgress, {"id_task": "task(txt2img-ABC1234)", "live_preview": False}),
    responses=errors(*WRITE),
)
async def webui_task_progress(
    request: Request, services: ServicesDep, user: UserDep
) -> TaskProgressAnswer:
    """Get the progress of one task by the id that its request had as `force_task_id`."""
    asked = parse_body(TaskProgress, await read_json(request, services.decoding))
    active = [one for one in await _active(services, user) if one.task.id == asked.id_task]
    if not active:
        completed = asked.id_task in await run_in_threadpool(services.tasks.ended, user.client)
        return TaskProgressAnswer(
            active=False, queued=False, completed=completed, id_live_preview=-1, textinfo=None
        )
    one = active[0]
    if not one.runs:
        return TaskProgressAnswer(
            active=False, queued=True, completed=False, id_live_preview=-1, textinfo=one.place
        )
    preview, seen = None, previews_of(one.job)
    if asked.live_preview and seen != asked.id_live_preview:
        preview = await _preview(services, one.job)
    return TaskProgressAnswer(
        active=True,
        queued=False,
        completed=False,
        progress=one.share,
        eta=one.age_s / one.share - one.age_s if one.share else None,
        live_preview=preview and DATA_URI + preview,
        id_live_preview=seen if preview else asked.id_live_preview,
    )


@internal.get("/pending-tasks")
async def webui_pending_tasks(services: ServicesDep, user: UserDep) -> PendingTasksAnswer:
    """List the client's tasks that wait."""
    waiting = [one.task.id for one in await _active(services, user) if not one.runs]
    return PendingTasksAnswer(size=len(waiting), tasks=waiting)


async def _active(services: Services, user: User) -> list[_Active]:
    """Return the tasks of the client of which a job has not ended, the oldest first.

    A task whose request did not see the end of its job is ended here.
    """
    begun = await run_in_threadpool(services.tasks.begun, user.client)
    found = await asyncio.gather(*(_jobs(services, task) for task, _ in begun))
    active = []
    for (task, age_s), jobs in zip(begun, found, strict=True):
        if all(job.state in TERMINAL for job in jobs):
            await services.tasks.end(user.client, task)
        else:
            active.append(_Active(task, jobs, age_s))
    return active


async def _jobs(services: Services, task: ClientTask) -> list[JobView]:
    return await asyncio.gather(*map(services.watcher.view_or_last, task.job_ids))


def _current(active: list[_Active]) -> _Active | None:
    """Return the oldest task that runs, else the oldest that waits."""
    return next((one for one in active if one.runs), active[0] if active else None)


async def _interrupt(services: Services, user: User) -> None:
    active = await _active(services, user)
    for one in [one for one in active if one.runs] or active[:1]:
        await run_in_threadpool(services.queue.cancel_many, one.task.job_ids)


async def _preview(services: Services, view: JobView) -> str | None:
    """Return the latest preview of a running job in base64, if it makes any."""
    if previews_of(view) == 0:
        return None
    jpeg = await run_in_threadpool(services.board.preview, view.id)
    return None if jpeg is None else base64.b64encode(jpeg).decode()
