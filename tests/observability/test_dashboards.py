"""Tests that every query of the dashboards returns data while a stack is working."""

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
from tests.observability.programs import FAKE_WORKER, WORKER, observed_stack
from tests.observability.prometheus import MISSING, PROMETHEUS, Prometheus
from tests.observability.rules import DASHBOARDS, ROOT
from tests.support.tiny_models import write_tiny_sd

PROVISIONING = ROOT / "deploy/grafana/provisioning"
# Values of Grafana's variables.
VARIABLES = {"$__rate_interval": "20s", "$instance": ".*"}

Panel = dict[str, Any]


def panels() -> list[tuple[str, Panel]]:
    return [
        (file.stem, panel)
        for file in sorted(DASHBOARDS.glob("*.json"))
        for panel in json.loads(file.read_text("utf-8"))["panels"]
    ]


def queries() -> list[tuple[str, str]]:
    """Return the title of the panel and the expression of every query."""
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
    """Start Prometheus with a stack that has generated images with a tiny and with a fake model."""
    folder = tmp_path_factory.mktemp("stack")
    small = write_tiny_sd(folder / "small")
    plain = {"DARKROOM_WORKER_EXECUTOR": "eager", "DARKROOM_WORKER_ATTENTION": "sdpa"}
    with (
        observed_stack(folder, FAKE_WORKER, WORKER, DARKROOM_MODEL=str(small), **plain) as stack,
        Prometheus(folder, stack.targets) as prometheus,
    ):
        real = {"model": "small", "sampler": "ddim", "steps": 3}
        with ThreadPoolExecutor(4) as pool:
            for priority in ("high", "normal", "low"):
                for model in ({}, real):
                    for _ in range(2):  # before and after a scrape, so that there is a rate
                        fields = {"priority": priority, **model}
                        responses = pool.map(lambda f: stack.generate(**f), [fields] * 2)
                        assert {response.status_code for response in responses} == {200}
        assert stack.generate("refuse").status_code == 500
        failures = "count(rate(darkroom_worker_failures_total[20s])) > 0"
        wait_until(lambda: bool(prometheus.query(failures)), "Prometheus has all figures")
        yield prometheus


@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
def test_every_panel_has_data(prometheus: Prometheus) -> None:
    empty = [query for query in queries() if not prometheus.query(query[1])]
    assert empty == []


@pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)
def test_rq_counts_the_jobs_of_the_workers(prometheus: Prometheus) -> None:
    wait_until(
        lambda: bool(prometheus.query("sum(rq_workers_success_total) >= 24")),
        "RQ has counted all jobs",
    )
    assert prometheus.query("sum(rq_workers_failed_total) == 1")
    assert prometheus.query("sum(rq_workers_working_time_total) > 0")
    assert prometheus.query('sum(rq_jobs{status="finished"}) >= 24')


def test_dashboards_use_the_provisioned_data_source() -> None:
    source = yaml.safe_load((PROVISIONING / "datasources/prometheus.yml").read_text("utf-8"))
    [uid] = [one["uid"] for one in source["datasources"]]
    assert {
        target["datasource"]["uid"] for _, panel in panels() for target in panel["targets"]
    } == {uid}
    assert {dashboard for dashboard, _ in panels()} == {"overview", "worker", "queue"}
    for dashboard in DASHBOARDS.glob("*.json"):
        ids = [panel["id"] for panel in json.loads(dashboard.read_text("utf-8"))["panels"]]
        assert len(set(ids)) == len(ids)


def test_latency_panels_include_every_task() -> None:
    image_routes = {
        found[1] for _, query in queries() if (found := re.search(r'route=~"([^"]+)"', query))
    }
    assert image_routes
    for routes in image_routes:
        for task in Task:
            assert re.fullmatch(routes, f"/v1/{task}"), task
