"""Tests of Dockerfile, docker-compose.yml, .env.example and the mounted files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from protocol.settings import Settings
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = (ROOT / ".env.example").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(?::([-?])([^${}]*))?")
# In the example these have the values for a bucket, which is not the default.
IN_A_BUCKET = {"OBJECT_STORE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
PINNED = re.compile(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?(@sha256:[0-9a-f]{64})?")


def test_dockerfile_passes_hadolint() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_containers_have_few_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & service.keys()
    assert service["restart"] == "unless-stopped"
    assert "mem_limit" in service
    assert "pids_limit" in service
    if "build" not in service:  # the project's own images set their user in the Dockerfile
        assert service["user"] not in ("0", "root")


def test_own_images_do_not_run_as_root() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    by_name = {stage.splitlines()[0].split(" AS ")[1]: stage for stage in stages}
    for service in SERVICES.values():
        if "build" in service:
            *_, user = re.findall(r"^USER (.*)$", by_name[service["build"]["target"]], re.MULTILINE)
            assert user == "10001:10001"


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    service = SERVICES[name]
    if "build" not in service:
        assert PINNED.fullmatch(service["image"])


def test_base_image_is_pinned() -> None:
    assert re.search(r"^FROM python:3\.\d+\.\d+-slim-[a-z]+ AS base$", DOCKERFILE, re.MULTILINE)


def test_ports_are_published_on_the_loopback_only() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert re.match(r"(\$\{PUBLISH_HOST:-)?127\.0\.0\.1\}?:", port)
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name in ("redis", "s3"):
        assert SERVICES[name]["networks"] == ["inside"]


def test_api_requires_keys() -> None:
    """Its container listens on all addresses, for which the service requires keys."""
    environment = SERVICES["api"]["environment"]
    assert "DARKROOM_AUTH" not in environment
    assert ServiceSettings(host=environment["HOST"]).keys_needed


def test_example_lists_every_variable_and_no_other() -> None:
    used = {found[1]: found for found in VARIABLE.finditer(COMPOSE_TEXT)}
    listed = dict(re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert used.keys() <= listed.keys()
    for name, found in used.items():
        if found[2] == "?":
            assert re.search(rf"^{name}=$", EXAMPLE, re.MULTILINE), f"{name} must be set"
        elif name not in IN_A_BUCKET:
            assert listed[name] == found[3], f"the default of {name}"
    settings = {
        f"DARKROOM_{field}".upper()
        for kind in (ServiceSettings, WorkerSettings)
        for field in kind.model_fields
    }
    others = {name for name in listed.keys() - used.keys() if not name.startswith(("AWS_", "HF_"))}
    assert others <= settings


def test_compose_sets_known_settings_only() -> None:
    kinds: dict[str, type[Settings]] = {"api": ServiceSettings, "worker": WorkerSettings}
    for service, kind in kinds.items():
        named = {name for name in SERVICES[service]["environment"] if name.startswith("DARKROOM_")}
        assert named <= {f"DARKROOM_{field}".upper() for field in kind.model_fields}


def test_workers_have_time_to_finish_their_jobs() -> None:
    for name in ("worker", "worker-gpu"):
        grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace > WorkerSettings.model_fields["worker_shutdown_grace_s"].default


def test_dockerignore_lets_the_copied_files_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert f"!{source}" in ignored
            assert (ROOT / source).exists()


def test_redis_is_durable() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes --appendfsync always" in command
    assert "--maxmemory-policy noeviction" in command


def mounts(service: str) -> dict[str, str]:
    """Return the mounted folders of the repository by their path in the container."""
    named = [volume.split(":") for volume in SERVICES[service]["volumes"]]
    return {target: source for source, target, *_ in named if source.startswith("./")}


def test_grafana_finds_its_dashboards_and_its_data() -> None:
    folders = mounts("grafana")
    provisioning = ROOT / folders["/etc/grafana/provisioning"]
    [providers] = [yaml.safe_load(file.read_text()) for file in provisioning.glob("dashboards/*")]
    for provider in providers["providers"]:
        assert list((ROOT / folders[provider["options"]["path"]]).glob("*.json"))
    [sources] = [yaml.safe_load(file.read_text()) for file in provisioning.glob("datasources/*")]
    [source] = sources["datasources"]
    address = urlsplit(source["url"])
    assert address.hostname in SERVICES
    assert SERVICES[str(address.hostname)]["ports"][0].endswith(f":{address.port}")


def test_prometheus_scrapes_the_programs() -> None:
    folder = ROOT / mounts("prometheus")["/etc/prometheus"]
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        for group in job.get("static_configs", []):
            assert {target.partition(":")[0] for target in group["targets"]} <= SERVICES.keys()
        for group in job.get("dns_sd_configs", []):
            assert set(group["names"]) <= SERVICES.keys()
            assert f"DARKROOM_WORKER_METRICS_PORT={group['port']}" in DOCKERFILE
