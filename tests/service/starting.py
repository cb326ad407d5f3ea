"""A service whose worker has published no model yet."""

import time

import httpx

from protocol.storage.object_store import ObjectStore
from service.app import create_app
from service.routes.deps import Services
from tests.service.conftest import CARD, settings_for, word_tokenizer
from tests.service.fake_worker import FakeWorker


class Starting:
    """A service without a worker yet, and the waiting requests of its clients."""

    def __init__(self, redis_url: str, **settings: object) -> None:
        self.redis_url = redis_url
        self.store = ObjectStore.open("memory:///")
        self.settings = settings_for(redis_url, **settings)
        self.app = create_app(self.settings, self.store)
        self.url = ""

    def post(self, prefer: str = "", **fields: object) -> httpx.Response:
        headers = {"Prefer": prefer} if prefer else {}
        return self.send("/v1/txt2img", {"prompt": "x", **fields}, headers)

    def send(self, path: str, body: object, headers: dict[str, str]) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers=headers, timeout=60)

    def worker(self) -> FakeWorker:
        return FakeWorker(self.redis_url, self.store, CARD, word_tokenizer())

    def until_waiting(self, count: int) -> None:
        services: Services = self.app.state.services
        while services.directory.waiting != count:
            time.sleep(0.01)
