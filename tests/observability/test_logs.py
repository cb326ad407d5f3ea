"""Tests of the logs of both programs: request and job ids in every line, and no secrets."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from protocol.telemetry.context import request_id
from protocol.telemetry.logs import JsonLines, TextLines
from tests.cli.processes import wait_until
from tests.observability.programs import FAKE_WORKER, ObservedStack, Program, observed_stack

PROMPT = "canary-of-the-logs"
KEY = f"dk_0123456789ab_{'secret-part-of-key':x<43}"

Line = dict[str, Any]


def lines(program: Program) -> list[Line]:
    """Return all lines that a program has logged; every line is JSON."""
    return [json.loads(line) for line in program.log.read_text().splitlines()]


def matching(program: Program, **fields: object) -> list[Line]:
    return [line for line in lines(program) if fields.items() <= line.items()]


def test_both_programs_log_the_request_and_the_job(stack: ObservedStack) -> None:
    response = stack.client.post(
        "/v1/txt2img", json={"prompt": PROMPT}, headers={"X-Request-Id": "follow-me-1"}
    )
    job = response.json()["id"]
    worker = stack.workers[0]
    wait_until(lambda: bool(matching(worker, event="job left", job=job)), "the worker is done")
    # The API logs a request after it has responded.
    wait_until(lambda: bool(matching(stack.api, request="follow-me-1", event="request")), "the API")
    found = matching(stack.api, request="follow-me-1") + matching(worker, request="follow-me-1")
    events = [line["event"] for line in found]
    assert events == ["job accepted", "request", "job claimed", "job left"]
    assert {line["job"] for line in found if line["event"] != "request"} == {job}
    [request] = [line for line in found if line["event"] == "request"]
    assert (request["route"], request["status"]) == ("/v1/txt2img", "200")
    assert request["seconds"] > 0


def test_neither_prompts_nor_keys_are_logged(stack: ObservedStack) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "X-API-Key": KEY}
    fields = {"prompt": PROMPT, "negative_prompt": PROMPT, PROMPT: PROMPT}
    assert stack.client.post("/v1/txt2img", json=fields, headers=headers).status_code == 422
    stack.client.get(f"/v1/jobs/{PROMPT}?prompt={PROMPT}", headers=headers)
    stack.generate(f"{PROMPT} break").raise_for_status()
    wait_until(lambda: bool(matching(stack.api, status="422")), "the API has logged it")
    for program in (stack.api, *stack.workers):
        text = program.log.read_text()
        assert text
        assert PROMPT not in text
        assert KEY not in text


def test_probes_and_scrapes_are_not_logged(stack: ObservedStack) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert stack.client.get(path).is_success
    stack.client.get("/v1/models").raise_for_status()
    wait_until(lambda: bool(matching(stack.api, route="/v1/models")), "the API has logged it")
    routes = {line.get("route") for line in lines(stack.api)}
    assert routes & {"/healthz", "/readyz", "/metrics"} == set()


def test_prompts_are_logged_if_enabled(tmp_path: Path) -> None:
    with observed_stack(tmp_path, FAKE_WORKER, DARKROOM_LOG_PROMPTS="true") as stack:
        stack.generate(PROMPT).raise_for_status()
        [accepted] = matching(stack.api, event="job accepted")
        assert accepted["prompt"] == PROMPT
        stack.generate("a dog").raise_for_status()


def test_log_level_is_applied(tmp_path: Path) -> None:
    with observed_stack(tmp_path, FAKE_WORKER, DARKROOM_LOG_LEVEL="error") as stack:
        stack.generate().raise_for_status()
        assert lines(stack.api) + lines(stack.workers[0]) == []


def logged(formatter: logging.Formatter, message: str, **extra: object) -> str:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    handler.handle(logging.makeLogRecord({"msg": message, "levelname": "INFO", **extra}))
    return out.getvalue()


def test_text_format() -> None:
    line = logged(TextLines(), "job left", job="abc", state="finished")
    assert line.rstrip().endswith("info    job left  job=abc state=finished")


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
def test_control_characters_cannot_forge_a_line(formatter: logging.Formatter) -> None:
    text = logged(formatter, "one\ntwo", job="\x1b[2Jthree\r\nfour")
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\r" not in text


def test_line_has_the_id_of_its_request() -> None:
    token = request_id.set("abc-1")
    try:
        assert json.loads(logged(JsonLines(), "x"))["request"] == "abc-1"
    finally:
        request_id.reset(token)
    assert "request" not in json.loads(logged(JsonLines(), "x"))
