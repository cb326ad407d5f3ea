"""A real Prometheus that scrapes a stack under test twice a second."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import yaml

from darkroom.processes.parent_death import bound_to_parent
from tests.cli.processes import wait_until
from tests.observability.rules import CONFIG, immediate_rules
from tests.support.redis_server import free_port

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
MISSING = "Debian's package prometheus is not installed"
INTERVAL = "500ms"


class Prometheus:
    """Prometheus with `targets`: addresses by job name of the shipped configuration."""

    def __init__(self, folder: Path, targets: dict[str, list[str]]) -> None:
        config = yaml.safe_load(CONFIG.read_text("utf-8"))
        assert [job["job_name"] for job in config["scrape_configs"]] == list(targets)
        config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
        config["scrape_configs"] = [
            {"job_name": job, "static_configs": [{"targets": addresses}]}
            for job, addresses in targets.items()
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (folder / "alerts.yml").write_text(immediate_rules())
        self._folder = folder
        self._address = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        assert PROMETHEUS
        command = [
            PROMETHEUS,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={self._address}",
            "--log.level=error",
        ]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(bound_to_parent(command), stderr=log)
        wait_until(self._ready, f"Prometheus is ready; see {self._folder}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current samples of an expression without those that are not a number."""
        found = self._get("query", query=expression)["result"]
        return [sample for sample in found if sample["value"][1] != "NaN"]

    def firing(self) -> set[str]:
        """Return the names of the firing alerts."""
        found = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def wait_for(self, *names: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait until each of these alerts has fired; call `meanwhile` repeatedly."""
        missing = set(names)

        def seen() -> bool:
            meanwhile()
            missing.difference_update(self.firing())
            return not missing

        try:
            wait_until(seen, "all fire")
        except AssertionError as error:
            raise AssertionError(f"do not fire: {missing}; targets: {self.errors()}") from error

    def wait_until(self, expression: str) -> None:
        """Wait until an expression has a sample."""
        wait_until(lambda: bool(self.query(expression)), expression)

    def errors(self) -> dict[str, str]:
        """Return the scrape error of each target by its address."""
        targets = self._get("targets")["activeTargets"]
        return {target["labels"]["instance"]: target["lastError"] for target in targets}

    def _ready(self) -> bool:
        try:
            return bool(self._get("query", query="up")["result"])
        except OSError:
            time.sleep(0.05)
            return False

    def _get(self, what: str, **parameters: str) -> dict[str, Any]:
        url = f"http://{self._address}/api/v1/{what}?{urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            data: dict[str, Any] = json.load(response)["data"]
        return data
