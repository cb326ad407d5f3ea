"""Logs of both programs: one line for each event, with ids, never with prompts or keys.

    {"at": "2026-01-31T12:00:00.123456Z", "level": "info", "logger": "worker.consumer.consumer",
     "event": "job left", "job": "…", "request": "…", "state": "finished"}

or, in a terminal,

    12:00:00.123 info    job left  job=… request=… state=finished

The text of an exception may quote user data, so only its class and place are logged.
"""

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime

from protocol.settings import LogFormat, Settings
from protocol.startup import one_line
from protocol.telemetry.context import request_id
from protocol.variables import misspelled

logger = logging.getLogger(__name__)

# Attributes of every record; all others came in by `extra`.
STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "taskName", "color_message"}
# Loggers of libraries that log each connection or each request, which we log ourselves.
VERBOSE = ("httpx", "httpcore", "urllib3", "opentelemetry", "rq.worker")


class JsonLines(logging.Formatter):
    """A formatter to one line of JSON; `extra` become fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        event = {
            "at": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **fields_of(record),
        }
        return json.dumps(event, default=str)


class TextLines(logging.Formatter):
    """A formatter to a line for people; characters that could forge a line are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {key}={value}" for key, value in fields_of(record).items())
        line = f"{at} {record.levelname.lower():7} {record.getMessage()}{fields and ' '}{fields}"
        return one_line(line)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields of an event: its `extra`, its request, its exception."""
    fields = {key: value for key, value in vars(record).items() if key not in STANDARD}
    if of_request := request_id.get():
        fields.setdefault("request", of_request)
    if record.exc_info and record.exc_info[1] is not None:
        fields |= exception_fields(record.exc_info[1])
    return fields


def exception_fields(error: BaseException) -> dict[str, object]:
    """Return the class and place of an exception as log fields, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def start_logging(settings: Settings) -> None:
    """Send this process's logs to standard error, in the configured format and level.

    Log a warning for each variable with a misspelled name.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(settings.log_format))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for name in VERBOSE:
        logging.getLogger(name).setLevel(logging.WARNING)
    for sentence in misspelled(os.environ):
        logger.warning(sentence)


def _formatter(log_format: LogFormat) -> logging.Formatter:
    if log_format is LogFormat.AUTO:
        log_format = LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON
    return TextLines() if log_format is LogFormat.TEXT else JsonLines()
