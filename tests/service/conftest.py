"""Fixtures of a running service: uvicorn on its own port, a real Redis and a fake worker."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from tokenizers import Tokenizer, models, pre_tokenizers

from protocol.registry.tokenizer import PublishedTokenizer
from protocol.request.model_card import ModelCard
from protocol.request.tasks import Task
from protocol.storage.object_store import ObjectStore
from service.app import create_app
from service.http_protocol import server_config
from service.settings import ServiceSettings
from tests.service.description import check_described
from tests.service.fake_worker import FakeWorker
from tests.service.keys import key_for
from tests.support.redis_server import free_port

CARD = ModelCard(
    name="tiny",
    family="test",
    size_multiple=8,
    default_width=64,
    default_height=64,
    min_side=16,
    max_side=256,
    max_pixels=128 * 256,
    default_steps=4,
    max_steps=50,
    default_guidance_scale=5.0,
    max_guidance_scale=20.0,
    max_images=4,
    samplers=("ddim", "euler"),
    schedules=("leading", "karras"),
    default_sampler="ddim",
    default_schedule="leading",
    max_prompt_tokens=20,
    max_clip_skip=2,
)

# One model with all tasks; no real model has them all.
ABLE = CARD.model_copy(
    update={"tasks": tuple(Task), "classes": 10, "max_boxes": 4, "upscale_factor": 2}
)
MAX_BODY_BYTES = 2**20
HOOKS = {"response": [check_described]}  # every response must match the OpenAPI description


@dataclass(frozen=True)
class Running:
    """A running service, its worker and its store."""

    url: str
    client: httpx.Client
    worker: FakeWorker
    store: ObjectStore
    app: FastAPI


def word_tokenizer() -> str:
    """Return a tokenizer for which every word is a token."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PublishedTokenizer(backend=tokenizer.to_str()).model_dump_json()


def settings_for(redis_url: str, **changed: object) -> ServiceSettings:
    defaults = {
        "redis_url": redis_url,
        "object_store_url": "memory:///",
        "max_body_bytes": MAX_BODY_BYTES,
        "max_image_pixels": 512 * 512,
        "max_queue_length": 8,
        "max_wait_s": 30.0,
        "poll_s": 0.2,
        "shutdown_grace_s": 1,
    }
    return ServiceSettings.model_validate(defaults | changed)


@contextmanager
def serving(
    app: FastAPI, settings: ServiceSettings | None = None, host: str = "127.0.0.1"
) -> Iterator[str]:
    """Serve `app` with uvicorn and yield its URL; `settings` has the timeouts."""
    changed = {"host": host, "port": free_port()}
    settings = (settings or settings_for("redis://unused")).model_copy(update=changed)
    with serving_with(server_config(app, settings)) as url:
        yield url


@contextmanager
def serving_with(config: uvicorn.Config) -> Iterator[str]:
    """Serve with uvicorn and yield the URL."""
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="service")
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{config.port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def running(redis_url: str, card: ModelCard = CARD, /, **changed: object) -> Iterator[Running]:
    """Run a service with a fake worker; `changed` are settings that differ from the default."""
    store = ObjectStore.open("memory:///")
    settings = settings_for(redis_url, **changed)
    app = create_app(settings, store)
    with (
        FakeWorker(redis_url, store, card, word_tokenizer()) as worker,
        serving(app, settings) as url,
        httpx.Client(base_url=url, timeout=30, event_hooks=HOOKS) as client,
    ):
        yield Running(url, client, worker, store, app)


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    with running(redis_url) as service:
        yield service


@pytest.fixture(scope="module")
def ann(secured: Running) -> dict[str, str]:
    """The headers of a client of the service that needs keys."""
    return key_for(secured)


@pytest.fixture(scope="module")
def bob(secured: Running) -> dict[str, str]:
    """The headers of another client."""
    return key_for(secured)
