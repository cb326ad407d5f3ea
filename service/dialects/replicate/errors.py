"""Errors of Replicate's API: problems (RFC 9457), as ours are; `detail` is a text."""

from dataclasses import replace

from service.schemas.error_format import PROBLEM_JSON

# Clients of its streams know events by the names output, logs, error and done.
REPLICATE_ERRORS = replace(PROBLEM_JSON, event="error")
