"""Logs for machines: one line of JSON per event, with ids, never with prompts.

    {"at": "2026-01-31T12:00:00.123Z", "level": "info", "logger": "worker.rq_worker",
     "event": "job ended", "job": "…", "state": "finished"}

The text of a foreign exception may quote what it choked on, so only its kind and place are told.
"""

import json
import logging
import traceback
from datetime import UTC, datetime

# What every record carries anyway; anything else came in by `extra`.
STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "taskName"}


class JsonLines(logging.Formatter):
    """A record as one line of JSON; its `extra` become fields."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        event |= {key: value for key, value in vars(record).items() if key not in STANDARD}
        if record.exc_info and record.exc_info[1] is not None:
            event |= exception_fields(record.exc_info[1])
        return json.dumps(event, default=str)


def exception_fields(error: BaseException) -> dict[str, object]:
    """What went wrong and where, in fields for a log; not the exception's own words."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def log_as_json(level: int = logging.INFO) -> None:
    """Send this process's logs to standard error as lines of JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
