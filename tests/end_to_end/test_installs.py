"""Installs by request: a hub on loopback, the API, and two real workers with one model store."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.loading.loader import BUNDLED
from protocol.connection.redis_client import connect
from protocol.registry.installs import InstallRequest, Installs
from protocol.registry.presence import Presence
from service.app import create_app
from tests.models.checkpoints.loopback_hub import Hub, Repository, serving
from tests.models.checkpoints.test_hub import UNET, files_of
from tests.service.conftest import serving as serving_app
from tests.service.conftest import settings_for
from tests.support.forked_program import ForkedProgram
from tests.support.local_stack import QUICK
from tests.support.redis_server import RedisServer
from tests.support.tiny_models import write_tiny_sd

pytestmark = pytest.mark.early

PATIENCE_S = 180.0  # how long a test waits for an event; no test measures it
FIELDS = {"prompt": "the red cat", "seed": 5, "steps": 2, "sampler": "ddim"}


@dataclass
class Installing:
    """The hub, the API's client, the model store, and the workers with their logs."""

    hub: Hub
    client: httpx.Client
    home: Path
    redis_url: str
    environment: dict[str, str]
    workers: dict[Path, ForkedProgram] = field(default_factory=dict)

    def start_worker(self) -> None:
        log = self.home / f"worker-{len(self.workers)}.log"
        self.workers[log] = ForkedProgram("worker", environment=self.environment, output=log)

    def worker_of(self, install_id: str) -> ForkedProgram:
        """Return the worker that has begun the install."""
        [worker] = [w for log, w in self.workers.items() if install_id in log.read_text("utf-8")]
        return worker

    def submit(self, **fields: object) -> str:
        response = self.client.post("/v1/models", json=fields)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def get(self, install_id: str) -> dict[str, Any]:
        response = self.client.get(f"/v1/models/installs/{install_id}")
        assert response.status_code == 200
        found: dict[str, Any] = response.json()
        return found

    def ended(self, install_id: str) -> dict[str, Any]:
        wait_for(lambda: self.get(install_id)["state"] in ("finished", "failed"))
        return self.get(install_id)

    def install(self, **fields: object) -> dict[str, Any]:
        return self.ended(self.submit(**fields))

    def cards(self) -> dict[str, Any]:
        models = self.client.get("/v1/models").json()["models"]
        return {model["name"]: model for model in models}

    def served_by(self) -> list[set[str]]:
        """Return the models of each worker that is alive."""
        with connect(self.redis_url) as redis:
            reports = Presence(redis).workers()
        return [{model.name for model in report.models} for report in reports]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_of(write_tiny_sd(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, bytes]) -> Iterator[Installing]:
    folder = tmp_path_factory.mktemp("installs")
    with ExitStack() as ends:
        hub = ends.enter_context(serving(Hub({"owner/tiny": Repository(tiny)})))
        redis_url = ends.enter_context(RedisServer()).url
        store = (folder / "images").as_uri()
        settings = settings_for(redis_url, install_owners=("owner",), object_store_url=store)
        url = ends.enter_context(serving_app(create_app(settings), settings))
        client = ends.enter_context(httpx.Client(base_url=url, timeout=60))
        environment = {
            **os.environ,
            **QUICK,
            "REDIS_URL": redis_url,
            "OBJECT_STORE_URL": store,
            "HF_HOME": str(folder / "hub"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DARKROOM_DEVICE": "cpu",
            "DARKROOM_INSTALL_OWNERS": "owner",
            "DARKROOM_MODELS_HOME": str(folder / "home"),
            "DARKROOM_WORKER_METRICS_PORT": "0",
            "DARKROOM_WORKER_HEARTBEAT_S": "0.3",
            "DARKROOM_WORKER_LEASE_S": "3",
        }
        stack = Installing(hub, client, folder / "home", redis_url, environment)
        stack.home.mkdir()
        ends.enter_context(stopping(stack))
        stack.start_worker()
        stack.start_worker()
        wait_for(lambda: sum(map(bool, stack.served_by())) == 2)
        yield stack


@contextmanager
def stopping(stack: Installing) -> Iterator[None]:
    """Stop the workers at the end, also those that did not come up."""
    try:
        yield
    finally:
        stack.hub.held.set()
        for worker in stack.workers.values():
            worker.send_signal(signal.SIGTERM)
        for worker in stack.workers.values():
            worker.wait(PATIENCE_S)


def test_installed_model_generates_without_a_restart(
    stack: Installing, tiny: dict[str, bytes]
) -> None:
    assert "tiny" not in stack.cards()
    install = stack.submit(source="owner/tiny")
    shares = [0.0]
    while (found := stack.get(install))["state"] not in ("finished", "failed"):
        shares.append(found["share"])
        time.sleep(0.02)
    assert (found["state"], found.get("error")) == ("finished", None)
    assert (found["share"], found["name"], found["kind"]) == (1.0, "tiny", "model")
    # Never less, unless a busy machine has lost its lease and the install has started again.
    assert all(after >= before or after == 0 for before, after in pairwise(shares))
    assert len(set(shares)) > 1  # it was seen running
    installed = stack.home / "models/tiny"
    assert (installed / UNET).is_file()
    assert stack.cards()["tiny"]["family"] == "sd1"
    response = stack.client.post("/v1/txt2img", json={**FIELDS, "model": "tiny"})
    assert response.status_code == 200, response.text
    assert response.json()["images"]
    # The other worker has the same store.
    wait_for(lambda: all("tiny" in served for served in stack.served_by()))
    assert not list(stack.home.glob(".adding-*"))


def test_extra_network_is_offered(stack: Installing, tmp_path: Path) -> None:
    shape = load_file(BUNDLED / UNET)["conv_in.weight"].shape
    pair = {
        "unet.conv_in.lora_A.weight": torch.ones(2, *shape[1:]),
        "unet.conv_in.lora_B.weight": torch.ones(shape[0], 2, 1, 1),
    }
    save_file(pair, tmp_path / "style.safetensors")
    raw = (tmp_path / "style.safetensors").read_bytes()
    # The pickle has another folder than the weights that are read.
    stack.hub.repositories["owner/style"] = Repository({"s.safetensors": raw, "old/s.pt": b"no"})
    found = stack.install(source="owner/style", kind="lora", name="pencil")
    assert (found["state"], found["kind"]) == ("finished", "lora"), found
    wait_for(lambda: any("pencil" in card["loras"] for card in stack.cards().values()))


def test_pickles_are_refused_by_name(stack: Installing, tiny: dict[str, bytes]) -> None:
    pickled = {name.replace(".safetensors", ".bin"): raw for name, raw in tiny.items()}
    mixed = {name: raw for name, raw in tiny.items() if name != UNET}
    mixed[UNET.replace(".safetensors", ".bin")] = b"no"
    stack.hub.repositories |= {
        "owner/pickled": Repository(pickled),
        "owner/mixed": Repository(mixed),
        "owner/single": Repository({"model.ckpt": b"no"}),
    }
    for name, part in {
        "pickled": "text_encoder/",
        "mixed": "unet/",
        "single": "model.ckpt",
    }.items():
        found = stack.install(source=f"owner/{name}")
        assert found["state"] == "failed"
        assert f"owner/{name} holds no safetensors of {part}" in found["error"]
    fetched = [path for _, path, _ in stack.hub.requests if path.endswith((".bin", ".ckpt"))]
    assert fetched == []


def test_reasons_of_failures(stack: Installing, tiny: dict[str, bytes]) -> None:
    stack.hub.repositories["owner/broken"] = Repository({**tiny, UNET: tiny[UNET][:-100]})
    stack.hub.repositories["owner/gated"] = Repository(tiny, gated=True)
    reasons = {
        "nothing": "there is no such repository",
        "gated": "its owner asks for consent",
        "broken": "its tensors end",
    }
    for name, reason in reasons.items():
        found = stack.install(source=f"owner/{name}")
        assert found["state"] == "failed"
        assert reason in found["error"]
    [card] = [card for name, card in stack.cards().items() if name != "tiny"]
    taken = stack.install(source="owner/tiny", name=card["name"])
    assert (taken["state"], "served already" in taken["error"]) == ("failed", True)
    assert card["description"] == stack.cards()[card["name"]]["description"]
    wrong = stack.install(source="owner/tiny", name="other", kind="lora")
    assert wrong["state"] == "failed"
    assert not list(stack.home.glob(".adding-*"))


def test_record_of_a_stranger_is_refused_by_the_worker(
    stack: Installing, tiny: dict[str, bytes]
) -> None:
    """Redis is not trusted: the record did not come through the API."""
    stack.hub.repositories["stranger/tiny"] = Repository(tiny)
    with connect(stack.redis_url) as redis:
        install = Installs(redis).submit(InstallRequest(source="stranger/tiny"))
    found = stack.ended(install.id)
    assert (found["state"], "lacks stranger" in found["error"]) == ("failed", True)
    assert not any("stranger" in path for _, path, _ in stack.hub.requests)


def test_install_of_a_killed_worker_is_taken_over(
    stack: Installing, tiny: dict[str, bytes]
) -> None:
    stack.hub.repositories["owner/held"] = Repository(tiny)
    stack.hub.holds = "owner/held"
    install = stack.submit(source="owner/held")
    wait_for(lambda: stack.hub.downloads(Path(UNET).name) != [])
    wait_for(lambda: stack.get(install)["state"] == "running")
    worker = stack.worker_of(install)
    worker.kill()
    worker.wait()
    stack.hub.held.set()
    assert stack.ended(install)["state"] == "finished"
    others = [w for w in stack.workers.values() if w is not worker]
    assert all(other.poll() is None for other in others)
    response = stack.client.post("/v1/txt2img", json={**FIELDS, "model": "held"})
    assert response.status_code == 200, response.text


@pytest.mark.long
def test_installed_models_are_served_after_a_restart(stack: Installing) -> None:
    for worker in stack.workers.values():
        worker.send_signal(signal.SIGTERM)
        worker.wait(PATIENCE_S)
    wait_for(lambda: stack.served_by() == [])
    stack.start_worker()
    wait_for(lambda: any({"tiny", "held"} <= served for served in stack.served_by()))
    response = stack.client.post("/v1/txt2img", json={**FIELDS, "model": "tiny"})
    assert response.status_code == 200, response.text
