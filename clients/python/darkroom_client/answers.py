"""Reads the answers of a server into records, all checked: another program may answer."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from darkroom_client.errors import TYPE_PREFIX, Problem, UnexpectedAnswer
from darkroom_client.records import (
    BatchStatus,
    Choice,
    JobState,
    JobStatus,
    Model,
    Recipe,
    Samplers,
    Warning,
)

WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")  # safe in a path or a file name
MALFORMED = (ArithmeticError, LookupError, TypeError, ValueError, RecursionError)
NUMBER = (int, float)

T = TypeVar("T")
Answer = Mapping[str, Any]


def parse(text: bytes | str, read: Callable[[Answer], T], server: str) -> T:
    """Return what `read` makes of a JSON object. Raises UnexpectedAnswer, which names `server`."""
    try:
        answer = json.loads(text)
        if not isinstance(answer, dict):
            raise TypeError("not an object")
        return read(answer)
    except MALFORMED as error:
        message = f"{server} answers, but not as Darkroom does: is the address right?"
        raise UnexpectedAnswer(message) from error


def read_object(answer: Answer) -> Answer:
    return answer


def read_id(answer: Answer) -> str:
    return word(answer["id"])


def read_health(answer: Answer) -> bool:
    """Return True. Raises ValueError if this is no live Darkroom."""
    if answer["status"] != "ok":
        raise ValueError("not ok")
    return True


def read_problem(answer: Answer) -> Problem:
    job = typed(answer.get("job"), str, None)
    return Problem(
        status=typed(answer.get("status"), int, 500),
        kind=typed(answer.get("type"), str, "").removeprefix(TYPE_PREFIX),
        title=typed(answer.get("title"), str, ""),
        detail=typed(answer.get("detail"), str, ""),
        field=typed(answer.get("field"), str, None),
        value=answer.get("value"),
        bound=typed(answer.get("bound"), str, None),
        job_id=job and word(job.rpartition("/")[2]),
        request_id=typed(answer.get("request_id"), str, None),
    )


def read_job(answer: Answer) -> JobStatus:
    progress = typed(answer.get("progress"), dict, {})
    preview = typed(progress.get("preview"), str, None)
    error = typed(answer.get("error"), dict, None)
    return JobStatus(
        id=word(answer["id"]),
        state=JobState(answer["state"]),
        step=typed(progress.get("step"), int, 0),
        steps=typed(progress.get("steps"), int, 0),
        phase=typed(progress.get("phase"), str, None),
        position=typed(answer.get("position"), int, None),
        eta_s=typed(answer.get("eta_s"), NUMBER, None),
        preview=base64.b64decode(preview) if preview else None,
        previews={
            typed(one["index"], int): base64.b64decode(typed(one["base64"], str))
            for one in typed(progress.get("previews"), list, [])
        },
        error=read_problem(error) if error else None,
        warnings=read_warnings(answer),
        model=typed(answer.get("model"), str, None),
        task=typed(answer.get("task"), str, None),
        created_at=typed(answer.get("created_at"), str, None),
    )


def read_warnings(answer: Answer) -> tuple[Warning, ...]:
    return tuple(
        Warning(
            code=typed(warning["code"], str),
            detail=typed(warning["detail"], str),
            field=typed(warning.get("field"), str, None),
        )
        for warning in typed(answer.get("warnings"), list, [])
    )


def read_jobs(answer: Answer) -> tuple[list[JobStatus], str | None]:
    """Return the jobs of a page, and the cursor of the next one."""
    jobs = [read_job(job) for job in typed(answer["jobs"], list)]
    cursor = answer.get("next_cursor", answer.get("next"))
    return jobs, typed(cursor, str, None)


def read_batch(answer: Answer) -> BatchStatus:
    states = {JobState(name): typed(count, int) for name, count in answer["states"].items()}
    return BatchStatus(word(answer["id"]), typed(answer["count"], int), states)


def read_recipe(answer: Answer) -> Recipe:
    return Recipe(
        source=typed(answer.get("source"), str, None),
        task=typed(answer.get("task"), str, None),
        request=typed(answer.get("request"), dict, None),
        needs=tuple(typed(name, str) for name in answer["needs"]),
        parameters=typed(answer["parameters"], dict),
        texts=typed(answer["texts"], dict),
        digital_source_type=typed(answer.get("digital_source_type"), str, None),
        content_credentials=typed(answer.get("content_credentials"), dict, None),
    )


def read_models(answer: Answer) -> tuple[Model, ...]:
    return tuple(read_model(model) for model in typed(answer["models"], list))


def read_model(card: Answer) -> Model:
    return Model(
        name=typed(card["name"], str),
        aliases=tuple(typed(alias, str) for alias in card.get("aliases", ())),
        tasks=tuple(typed(task, str) for task in card["tasks"]),
        default_width=typed(card["default_width"], int),
        default_height=typed(card["default_height"], int),
        default_steps=typed(card["default_steps"], int),
        default_sampler=typed(card["default_sampler"], str),
        ready=typed(card["ready"], bool),
        on_demand=typed(card.get("on_demand"), bool, False),
        loading=typed(card.get("loading"), NUMBER, None),
        trouble=typed(card.get("trouble"), str, None),
        card=card,
    )


def read_samplers(answer: Answer) -> Samplers:
    return Samplers(*(tuple(_choices(answer[name])) for name in ("samplers", "schedules")))


def _choices(answers: list[Answer]) -> Iterator[Choice]:
    for choice in answers:
        models = tuple(typed(model, str) for model in choice["models"])
        yield Choice(typed(choice["name"], str), typed(choice["title"], str), models)


def word(value: object) -> str:
    """Return an id or the name of a format. Raises ValueError if it cannot be part of a path."""
    if not (isinstance(value, str) and WORD.fullmatch(value)):
        raise ValueError(f"{value!r} is no id")
    return value


def typed(value: Any, kind: type | tuple[type, ...], *default: Any) -> Any:
    """Return a value of this type. None is replaced by the default. Raises TypeError."""
    if value is None and default:
        return default[0]
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not of type {kind}")
    return value
