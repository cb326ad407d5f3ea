"""Clients: a steady mixed load over HTTP, and a note of everything they were told.

Each client does as a real one might: it waits for its pictures, or polls, or follows the answers to
a retried request, or cancels, or simply leaves. What a fault makes it see (a refused connection, a
503) it notes as a client-visible error, and tries again at the next API, as behind a load balancer.
"""

import asyncio
import base64
import hashlib
import io
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import httpx
from PIL import Image

from protocol.queue.job import TERMINAL, JobState

TRY_AGAIN_S = 0.2
POLL_S = 0.3
PATIENCE_S = 30.0  # of one HTTP exchange
SAMPLERS = ("ddim", "plms", "euler", "euler_ancestral", "dpmpp_2m", "unipc")
SIZES = ((32, 32), (48, 32), (32, 64))


@dataclass(frozen=True)
class SamplingParams:
    """One request, to be sent many times; the same one gives the same pictures."""

    task: str
    body: dict[str, Any]


class Manner(Enum):
    """How a client waits, and how many of twenty do so."""

    POLLS = 10
    WAITS = 7
    CANCELS = 1
    LEAVES = 2


@dataclass
class Notes:
    """What the clients were told.

    `accepted`: job id -> recipe, for every job that a client heard to be accepted. `states`: the
    states it was then seen in. `wrong`: jobs whose pictures were not those of the reference.
    """

    accepted: dict[str, int] = field(default_factory=dict)
    states: dict[str, list[JobState]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    verified: set[str] = field(default_factory=set)
    errors: list[tuple[float, str]] = field(default_factory=list)  # when, what


def recipes(rng: random.Random, count: int, steps: tuple[int, int]) -> list[SamplingParams]:
    """Requests of every task and sampler, of several sizes, formats, step counts and guidances."""
    return [_recipe(rng, number, steps) for number in range(count)]


def _recipe(rng: random.Random, number: int, steps: tuple[int, int]) -> SamplingParams:
    width, height = rng.choice(SIZES)
    body: dict[str, Any] = {
        "prompt": rng.choice(("the red cat", "a cat", "the cat at the red", "red")),
        "steps": rng.randint(*steps),
        "sampler": SAMPLERS[number % len(SAMPLERS)],
        "guidance_scale": rng.choice((1.0, 4.0, 7.5)),
        "seed": rng.randrange(2**32),
        "n": rng.choice((1, 1, 2)),
        "output_format": rng.choice(("png", "png", "jpeg", "webp")),
    }
    task = ("txt2img", "txt2img", "img2img", "inpaint")[number % 4]
    if task == "txt2img":
        return SamplingParams(task, body | {"width": width, "height": height})
    body |= {"image": _gradient(width, height, rng), "strength": rng.choice((0.4, 0.8))}
    if task == "inpaint":
        body["mask"] = _stencil(width, height)
    return SamplingParams(task, body)


async def draw_references(url: str, wanted: Sequence[SamplingParams]) -> list[list[str]]:
    """The digests of the pictures of each recipe, each drawn alone."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
        drawn = []
        for recipe in wanted:
            answer = await http.post(f"/v1/{recipe.task}", json=recipe.body)
            assert answer.status_code == 200, answer.text
            drawn.append(_digests(answer.json()))
        return drawn


class Load:
    """`orders` jobs, asked for by `clients` clients at a time, from APIs at `urls`."""

    def __init__(
        self,
        urls: Sequence[str],
        wanted: Sequence[SamplingParams],
        references: Sequence[list[str]],
        orders: int,
        clients: int,
        rng: random.Random,
    ) -> None:
        manners = [manner for manner in Manner for _ in range(manner.value)]
        self.notes = Notes()
        self._urls = urls
        self._wanted = wanted
        self._references = references
        self._clients = clients
        self._orders = [
            (rng.randrange(len(wanted)), rng.choice(manners), rng.getrandbits(128))
            for _ in range(orders)
        ]
        self._next_url = 0

    async def run(self) -> None:
        """Until every order has come to an end that its client can see."""
        orders = iter(self._orders)

        async def client() -> None:
            async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
                for recipe, manner, key in orders:
                    await _Order(self, http, recipe, manner, str(uuid.UUID(int=key))).carry_out()

        async with asyncio.TaskGroup() as group:
            for _ in range(self._clients):
                group.create_task(client())

    def url(self) -> str:
        """The next API, in turn."""
        self._next_url = (self._next_url + 1) % len(self._urls)
        return self._urls[self._next_url]

    def recipe(self, index: int) -> SamplingParams:
        return self._wanted[index]

    def check(self, job_id: str, index: int, digests: list[str]) -> None:
        if digests == self._references[index]:
            self.notes.verified.add(job_id)
        else:
            self.notes.wrong.add(job_id)


class _Order:
    """One client's dealings with one job, or with none if it is never told of it."""

    def __init__(
        self, load: Load, http: httpx.AsyncClient, recipe: int, manner: Manner, key: str
    ) -> None:
        self._load = load
        self._notes = load.notes
        self._http = http
        self._recipe = recipe
        self._manner = manner
        self._key = key

    async def carry_out(self) -> None:
        if self._manner is Manner.LEAVES:
            await self._leave_early()
            return
        answer = await self._insist("POST", f"/v1/{self._load.recipe(self._recipe).task}")
        body = answer.json()
        job_id = body["id"] if "id" in body else str(body["job"]).rpartition("/")[2]
        self._accepted(job_id)
        if answer.status_code == 200:
            self._load.check(job_id, self._recipe, _digests(body))
            return
        if self._manner is Manner.CANCELS:
            self._notes.cancelled.add(job_id)
            await self._insist("DELETE", f"/v1/jobs/{job_id}")
        await self._follow(job_id)

    async def _leave_early(self) -> None:
        try:
            await self._post(self._load.url(), timeout=0.3)
        except httpx.TimeoutException:
            return
        except httpx.TransportError as error:
            self._complain(f"POST: {type(error).__name__}")

    async def _follow(self, job_id: str) -> None:
        while True:
            answer = await self._insist("GET", f"/v1/jobs/{job_id}")
            if answer.status_code == 404:
                self._notes.missing.add(job_id)
                return
            state = JobState(answer.json()["state"])
            self._notes.states.setdefault(job_id, []).append(state)
            if state in TERMINAL:
                break
            await asyncio.sleep(POLL_S)
        if state is JobState.FINISHED:
            images = answer.json()["result"]["images"]
            files = [await self._insist("GET", image["url"]) for image in images]
            self._load.check(job_id, self._recipe, [_digest(file.content) for file in files])

    async def _insist(self, method: str, path: str) -> httpx.Response:
        """Ask until there is an answer of the service's that is not a passing trouble."""
        while True:
            url = "" if path.startswith("http") else self._load.url()
            try:
                if method == "POST":
                    answer = await self._post(url, PATIENCE_S)
                else:
                    answer = await self._http.request(method, url + path)
            except httpx.TransportError as error:
                self._complain(f"{method}: {type(error).__name__}")
            else:
                # A job's own failure is an end, told as a problem that says where the job is.
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                if method == "POST" and "Location" in answer.headers:
                    return answer
                self._complain(f"{method}: {answer.status_code}")
            await asyncio.sleep(TRY_AGAIN_S)

    async def _post(self, url: str, timeout: float) -> httpx.Response:
        recipe = self._load.recipe(self._recipe)
        headers = {"Idempotency-Key": self._key}
        if self._manner in (Manner.POLLS, Manner.CANCELS):
            headers["Prefer"] = "respond-async"
        return await self._http.post(
            f"{url}/v1/{recipe.task}", json=recipe.body, headers=headers, timeout=timeout
        )

    def _accepted(self, job_id: str) -> None:
        self._notes.accepted[job_id] = self._recipe

    def _complain(self, what: str) -> None:
        self._notes.errors.append((time.time(), what))


def error_counts(errors: Sequence[tuple[float, str]]) -> str:
    """In words: `GET: 503 ×4, POST: ReadError ×2`."""
    counts = Counter(what for _, what in errors)
    return ", ".join(f"{what} ×{times}" for what, times in counts.most_common())


def _digests(answer: dict[str, Any]) -> list[str]:
    return [_digest(base64.b64decode(image["base64"])) for image in answer["images"]]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _gradient(width: int, height: int, rng: random.Random) -> str:
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    image.putpixel((rng.randrange(width), rng.randrange(height)), (255, 0, 0))
    return _encoded(image)


def _stencil(width: int, height: int) -> str:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (8, 8, width - 8, height - 8))
    return _encoded(mask)


def _encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
