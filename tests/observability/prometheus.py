"""A real Prometheus beside a house under test: asks twice a second, forgets everything after."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import yaml

from darkroom.processes.parent_death import bound_to_parent
from tests.cli.processes import wait_until
from tests.observability.rules import CONFIG, impatient_rules
from tests.support.redis_server import free_port

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
MISSING = "Debian's package prometheus is not installed"
EVERY = "500ms"


class Prometheus:
    """Scrapes `targets`, addresses by job, as the shipped configuration names the jobs."""

    def __init__(self, folder: Path, targets: dict[str, list[str]]) -> None:
        config = yaml.safe_load(CONFIG.read_text("utf-8"))
        assert [job["job_name"] for job in config["scrape_configs"]] == list(targets)
        config["global"] = {"scrape_interval": EVERY, "evaluation_interval": EVERY}
        config["scrape_configs"] = [
            {"job_name": job, "static_configs": [{"targets": addresses}]}
            for job, addresses in targets.items()
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (folder / "alerts.yml").write_text(impatient_rules())
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples an expression has at this moment; those that are no number are left out."""
        found = self._get("query", query=expression)["result"]
        return [sample for sample in found if sample["value"][1] != "NaN"]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        found = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def wait_for(self, *names: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Until each of these alerts has been seen to fire; `meanwhile` goes on being done."""
        missing = set(names)

        def seen() -> bool:
            meanwhile()
            missing.difference_update(self.firing())
            return not missing

        try:
            wait_until(seen, "all fire")
        except AssertionError as error:
            raise AssertionError(f"do not fire: {missing}; targets: {self.trouble()}") from error

    def wait_until(self, expression: str) -> None:
        """Until an expression has an answer."""
        wait_until(lambda: bool(self.query(expression)), expression)

    def trouble(self) -> dict[str, str]:
        """Why a target cannot be scraped, by its address."""
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
        with urllib.request.urlopen(url, timeout=10) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data
