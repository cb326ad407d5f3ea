"""One request, followed by its id through the logs of both programs; and no secret in any line."""

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
from tests.observability.programs import DRAWING, LocalStack, Program, local_stack

PROMPT = "canary-of-the-logs"
KEY = f"dk_0123456789ab_{'nobody-may-read-me':x<43}"

Line = dict[str, Any]


def lines(program: Program) -> list[Line]:
    """Everything a program has logged: every line of it is JSON."""
    return [json.loads(line) for line in program.log.read_text().splitlines()]


def about(program: Program, **fields: object) -> list[Line]:
    return [line for line in lines(program) if fields.items() <= line.items()]


def test_both_programs_name_the_request_and_the_job(house: LocalStack) -> None:
    answer = house.client.post(
        "/v1/txt2img", json={"prompt": PROMPT}, headers={"X-Request-Id": "follow-me-1"}
    )
    job = answer.json()["id"]
    worker = house.workers[0]
    wait_until(lambda: bool(about(worker, event="job left", job=job)), "the worker is done")
    told = about(house.api, request="follow-me-1") + about(worker, request="follow-me-1")
    events = [line["event"] for line in told]
    assert events == ["job accepted", "request", "job claimed", "job left"]
    assert {line["job"] for line in told if line["event"] != "request"} == {job}
    [request] = [line for line in told if line["event"] == "request"]
    assert (request["route"], request["status"]) == ("/v1/txt2img", "200")
    assert request["seconds"] > 0


def test_neither_prompts_nor_keys_are_logged(house: LocalStack) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "X-API-Key": KEY}
    fields = {"prompt": PROMPT, "negative_prompt": PROMPT, PROMPT: PROMPT}
    assert house.client.post("/v1/txt2img", json=fields, headers=headers).status_code == 422
    house.client.get(f"/v1/jobs/{PROMPT}?prompt={PROMPT}", headers=headers)
    house.draw(f"{PROMPT} break").raise_for_status()
    wait_until(lambda: bool(about(house.api, status="422")), "the API has logged it")
    for program in (house.api, *house.workers):
        text = program.log.read_text()
        assert text
        assert PROMPT not in text
        assert KEY not in text


def test_what_machines_ask_all_the_time_is_not_logged(house: LocalStack) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert house.client.get(path).is_success
    house.client.get("/v1/models").raise_for_status()
    wait_until(lambda: bool(about(house.api, route="/v1/models")), "the API has logged it")
    routes = {line.get("route") for line in lines(house.api)}
    assert routes & {"/healthz", "/readyz", "/metrics"} == set()


def test_prompts_are_logged_when_asked_for(tmp_path: Path) -> None:
    with local_stack(tmp_path, DRAWING, DARKROOM_LOG_PROMPTS="true") as house:
        house.draw(PROMPT).raise_for_status()
        [accepted] = about(house.api, event="job accepted")
        assert accepted["prompt"] == PROMPT
        house.draw("a dog").raise_for_status()


def test_the_level_is_obeyed(tmp_path: Path) -> None:
    with local_stack(tmp_path, DRAWING, DARKROOM_LOG_LEVEL="error") as house:
        house.draw().raise_for_status()
        assert lines(house.api) + lines(house.workers[0]) == []


def logged(formatter: logging.Formatter, message: str, **extra: object) -> str:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    handler.handle(logging.makeLogRecord({"msg": message, "levelname": "INFO", **extra}))
    return out.getvalue()


def test_people_read_lines_of_text() -> None:
    line = logged(TextLines(), "job left", job="abc", state="finished")
    assert line.rstrip().endswith("info    job left  job=abc state=finished")


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
def test_nothing_can_forge_a_line(formatter: logging.Formatter) -> None:
    text = logged(formatter, "one\ntwo", job="\x1b[2Jthree\r\nfour")
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\r" not in text


def test_a_line_knows_the_request_it_is_logged_for() -> None:
    token = request_id.set("abc-1")
    try:
        assert json.loads(logged(JsonLines(), "x"))["request"] == "abc-1"
    finally:
        request_id.reset(token)
    assert "request" not in json.loads(logged(JsonLines(), "x"))
