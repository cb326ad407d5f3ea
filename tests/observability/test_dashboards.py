"""Every question that the dashboards ask has an answer while a house is at work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from protocol.request.tasks import Task
from tests.cli.processes import wait_until
from tests.observability.programs import DRAWING, WORKER, local_stack
from tests.observability.prometheus import MISSING, PROMETHEUS, Prometheus
from tests.observability.rules import DASHBOARDS, ROOT
from tests.support.tiny_models import write_tiny_sd

PROVISIONING = ROOT / "deploy/grafana/provisioning"
# What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "20s", "$instance": ".*"}

Panel = dict[str, Any]


def panels() -> list[tuple[str, Panel]]:
    return [
        (file.stem, panel)
        for file in sorted(DASHBOARDS.glob("*.json"))
        for panel in json.loads(file.read_text("utf-8"))["panels"]
    ]


def questions() -> list[tuple[str, str]]:
    """Where it is asked, and the expression as Prometheus gets it."""
    found = []
    for dashboard, panel in panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            found.append((f"{dashboard}: {panel['title']}", expression))
    return found


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """That of a house which has just drawn: small pictures by a real network, others by none."""
    folder = tmp_path_factory.mktemp("house")
    small = write_tiny_sd(folder / "small")
    plain = {"DARKROOM_WORKER_EXECUTOR": "eager", "DARKROOM_WORKER_ATTENTION": "sdpa"}
    with (
        local_stack(folder, DRAWING, WORKER, DARKROOM_MODEL=str(small), **plain) as house,
        Prometheus(folder, house.targets) as prometheus,
    ):
        real = {"model": "small", "sampler": "ddim", "steps": 3}
        with ThreadPoolExecutor(4) as pool:
            for priority in ("high", "normal", "low"):
                for model in ({}, real):
                    for _ in range(2):  # before and after a scrape, so that there is a rate
                        fields = {"priority": priority, **model}
                        answers = pool.map(lambda f: house.draw(**f), [fields] * 2)
                        assert {answer.status_code for answer in answers} == {200}
        assert house.draw("refuse").status_code == 500
        drawn = "count(rate(darkroom_worker_failures_total[20s])) > 0"
        wait_until(lambda: bool(prometheus.query(drawn)), "Prometheus has heard of it all")
        yield prometheus


@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
def test_every_panel_has_data(prometheus: Prometheus) -> None:
    empty = [question for question in questions() if not prometheus.query(question[1])]
    assert empty == []


@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
def test_rq_counts_what_our_workers_do(prometheus: Prometheus) -> None:
    wait_until(
        lambda: bool(prometheus.query("sum(rq_workers_success_total) >= 24")), "RQ has them all"
    )
    assert prometheus.query("sum(rq_workers_failed_total) == 1")
    assert prometheus.query("sum(rq_workers_working_time_total) > 0")
    assert prometheus.query('sum(rq_jobs{status="finished"}) >= 24')


def test_dashboards_are_what_grafana_is_told_to_read() -> None:
    source = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text("utf-8"))
    [uid] = [one["uid"] for one in source["datasources"]]
    assert {
        target["datasource"]["uid"] for _, panel in panels() for target in panel["targets"]
    } == {uid}
    assert {dashboard for dashboard, _ in panels()} == {"overview", "worker", "queue"}
    for dashboard in DASHBOARDS.glob("*.json"):
        ids = [panel["id"] for panel in json.loads(dashboard.read_text("utf-8"))["panels"]]
        assert len(set(ids)) == len(ids)


def test_the_time_to_a_picture_is_that_of_every_task() -> None:
    of_pictures = {
        found[1] for _, asked in questions() if (found := re.search(r'route=~"([^"]+)"', asked))
    }
    assert of_pictures
    for routes in of_pictures:
        for task in Task:
            assert re.fullmatch(routes, f"/v1/{task}"), task
