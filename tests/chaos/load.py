"""Load: clients with a steady mix of requests over HTTP, and a record of all responses.

A client waits for its images, polls, follows the events, retries a request, cancels, deletes its
job, disconnects, or submits a batch. Every job has a webhook. In the end the list of jobs is
compared with what clients did. Errors that a fault causes (a refused connection, a 503) are
recorded as client-visible errors, and the client retries at the next API, as behind a load
balancer.
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

from protocol.queue.batches import batch_job_id
from protocol.queue.job import TERMINAL, JobState

RETRY_S = 0.2
POLL_S = 0.3
TIMEOUT_S = 30.0  # of one HTTP request
SAMPLERS = ("ddim", "plms", "euler", "euler_ancestral", "dpmpp_2m", "unipc")
SIZES = ((32, 32), (48, 32), (32, 64))
TASKS = ("txt2img", "txt2img", "img2img", "inpaint")  # of the requests, in turn
BATCH_JOBS = 3


@dataclass(frozen=True)
class LoadRequest:
    """A request that is sent many times; it always gives the same images."""

    task: str
    body: dict[str, Any]


class Behaviour(Enum):
    """Behaviour of a client."""

    POLL = "poll"
    WAIT = "wait"
    DELETE = "delete"
    FOLLOW = "follow"
    DISCONNECT = "disconnect"
    BATCH = "batch"
    CANCEL = "cancel"


# Of 23 clients.
SHARES = {
    Behaviour.POLL: 6,
    Behaviour.WAIT: 5,
    Behaviour.DELETE: 4,
    Behaviour.FOLLOW: 3,
    Behaviour.DISCONNECT: 2,
    Behaviour.BATCH: 2,
    Behaviour.CANCEL: 1,
}


@dataclass
class Observations:
    """Record of the responses to all clients.

    `accepted`: job id -> index of the request, for every job that a response accepted. `states`:
    the states of the job in later responses. `totals`: the seconds that finished ones took.
    `wrong`: jobs whose images differ from the reference.
    `deleting`: jobs whose deletion was asked for; `deleted`: those for which it was
    acknowledged; `undead`: deleted jobs that an API still has in the end. `unlisted`: finished jobs
    that are not in the list in the end.
    `unanswered`: submissions that have not ended for their clients.
    """

    accepted: dict[str, int] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    states: dict[str, list[JobState]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    deleting: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    undead: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    verified: set[str] = field(default_factory=set)
    errors: list[tuple[float, str]] = field(default_factory=list)  # time, error
    unanswered: int = 0


def random_requests(
    rng: random.Random, count: int, steps: tuple[int, int], webhook_url: str
) -> list[LoadRequest]:
    """Return requests of all tasks and samplers, with several sizes, formats, steps and scales.

    `webhook_url` is to be called when their jobs have ended.
    """
    return [_random_request(rng, number, steps, webhook_url) for number in range(count)]


def _random_request(
    rng: random.Random, number: int, steps: tuple[int, int], webhook_url: str
) -> LoadRequest:
    width, height = rng.choice(SIZES)
    body: dict[str, Any] = {
        "webhook_url": webhook_url,
        "prompt": rng.choice(("the red cat", "a cat", "the cat at the red", "red")),
        "steps": rng.randint(*steps),
        "sampler": SAMPLERS[number % len(SAMPLERS)],
        "guidance_scale": rng.choice((1.0, 4.0, 7.5)),
        "seed": rng.randrange(2**32),
        "n": rng.choice((1, 1, 2)),
        "output_format": rng.choice(("png", "png", "jpeg", "webp")),
    }
    task = TASKS[number % len(TASKS)]
    if task == "txt2img":
        return LoadRequest(task, body | {"width": width, "height": height})
    body |= {"image": _gradient(width, height, rng), "strength": rng.choice((0.4, 0.8))}
    if task == "inpaint":
        body["mask"] = _mask(width, height)
    return LoadRequest(task, body)


async def generate_references(url: str, requests: Sequence[LoadRequest]) -> list[list[str]]:
    """Return the digests of the images of each request, generated one request at a time."""
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:
        references = []
        for request in requests:
            response = await http.post(f"/v1/{request.task}", json=request.body)
            assert response.status_code == 200, response.text
            references.append(_digests(response.json()))
        return references


class Load:
    """`submissions` jobs, submitted by `clients` clients at a time to the APIs at `urls`."""

    def __init__(
        self,
        urls: Sequence[str],
        requests: Sequence[LoadRequest],
        references: Sequence[list[str]],
        submissions: int,
        clients: int,
        rng: random.Random,
    ) -> None:
        behaviours = [each for each, share in SHARES.items() for _ in range(share)]
        self.observations = Observations(unanswered=submissions)
        self._urls = urls
        self._requests = requests
        self._references = references
        self._clients = clients
        self._submissions = [
            (rng.randrange(len(requests)), rng.choice(behaviours), rng.getrandbits(128))
            for _ in range(submissions)
        ]
        self._next_url = 0

    @property
    def most_jobs(self) -> int:
        """The number of jobs if every submission is accepted."""
        sizes = {Behaviour.BATCH: BATCH_JOBS}
        return sum(sizes.get(behaviour, 1) for _, behaviour, _ in self._submissions)

    async def run(self) -> None:
        """Run the clients until every job has ended for its client."""
        submissions = iter(self._submissions)

        async def client() -> None:
            async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
                for index, behaviour, number in submissions:
                    key = str(uuid.UUID(int=number))
                    await _Submission(self, http, index, behaviour, key).run()
                    self.observations.unanswered -= 1

        async with asyncio.TaskGroup() as group:
            for _ in range(self._clients):
                group.create_task(client())

    def url(self) -> str:
        """Return the address of the next API, in turn."""
        self._next_url = (self._next_url + 1) % len(self._urls)
        return self._urls[self._next_url]

    def request(self, index: int) -> LoadRequest:
        return self._requests[index]

    def check(self, job_id: str, index: int, digests: list[str]) -> None:
        if digests == self._references[index]:
            self.observations.verified.add(job_id)
        else:
            self.observations.wrong.add(job_id)


class _Submission:
    """One client's requests about one job; the client may never get the id of the job."""

    def __init__(
        self, load: Load, http: httpx.AsyncClient, index: int, behaviour: Behaviour, key: str
    ) -> None:
        self._load = load
        self._observations = load.observations
        self._http = http
        # A batch is of text to image.
        self._index = index - index % len(TASKS) if behaviour is Behaviour.BATCH else index
        self._request = load.request(self._index)
        if behaviour is Behaviour.BATCH:
            self._request = _batch_of(self._request)
        self._behaviour = behaviour
        self._key = key

    async def run(self) -> None:
        if self._behaviour is Behaviour.DISCONNECT:
            await self._disconnect_early()
            return
        if self._behaviour is Behaviour.BATCH:
            await self._batch()
            return
        response = await self._retry("POST", f"/v1/{self._request.task}")
        body = response.json()
        job_id = body["id"] if "id" in body else str(body["job"]).rpartition("/")[2]
        self._observations.accepted[job_id] = self._index
        if response.status_code == 200:
            self._load.check(job_id, self._index, _digests(body))
            return
        if self._behaviour is Behaviour.CANCEL:
            self._observations.cancelled.add(job_id)
            await self._retry("DELETE", f"/v1/jobs/{job_id}")
        if self._behaviour is Behaviour.DELETE:
            await self._delete(job_id)
            return
        if self._behaviour is Behaviour.FOLLOW:
            await self._follow(job_id)
        await self._poll(job_id)

    async def _batch(self) -> None:
        """Submit several jobs at once, and wait for each."""
        response = await self._retry("POST", "/v1/batches")
        while response.status_code != 202:  # Redis was emptied before it could be answered
            self._record_error(f"POST: {response.status_code}")
            response = await self._retry("POST", "/v1/batches")
        batch = response.json()["id"]
        jobs = [batch_job_id(batch, number) for number in range(BATCH_JOBS)]
        self._observations.accepted |= dict.fromkeys(jobs, self._index)
        for job_id in jobs:
            await self._poll(job_id)

    async def _delete(self, job_id: str) -> None:
        """Delete the job, at any moment of its life."""
        self._observations.deleting.add(job_id)
        await asyncio.sleep(random.Random(self._key).uniform(0, 2 * POLL_S))
        deleted = await self._retry("DELETE", f"/v1/jobs/{job_id}?purge=true")
        if deleted.status_code == 204:
            self._observations.deleted.add(job_id)

    async def _follow(self, job_id: str) -> None:
        """Follow the events to the last, with a new connection at the next API after each fault."""
        last, name = "", ""
        while name not in TERMINAL:
            headers = {"Last-Event-ID": last} if last else {}
            url = f"{self._load.url()}/v1/jobs/{job_id}/events"
            try:
                async with self._http.stream("GET", url, headers=headers) as response:
                    if response.status_code in (204, 404):
                        return
                    async for line in response.aiter_lines():
                        field_name, _, value = line.partition(": ")
                        name = value if field_name == "event" else name
                        last = value if field_name == "id" else last
            except httpx.TransportError as error:
                self._record_error(f"events: {type(error).__name__}")
            if name not in TERMINAL:
                await asyncio.sleep(RETRY_S)

    async def _disconnect_early(self) -> None:
        try:
            await self._post(self._load.url(), timeout=0.3)
        except httpx.TimeoutException:
            return
        except httpx.TransportError as error:
            self._record_error(f"POST: {type(error).__name__}")

    async def _poll(self, job_id: str) -> None:
        while True:
            response = await self._retry("GET", f"/v1/jobs/{job_id}")
            if response.status_code == 404:
                self._observations.missing.add(job_id)
                return
            state = JobState(response.json()["state"])
            self._observations.states.setdefault(job_id, []).append(state)
            if state in TERMINAL:
                break
            await asyncio.sleep(POLL_S)
        if state is JobState.FINISHED:
            result = response.json()["result"]
            self._observations.totals[job_id] = result["timings"]["total"]
            images = result["images"]
            files = [await self._retry("GET", image["url"]) for image in images]
            if any(file.status_code == 404 for file in files):
                self._observations.missing.add(job_id)
                return
            self._load.check(job_id, self._index, [_digest(file.content) for file in files])

    async def _retry(self, method: str, path: str) -> httpx.Response:
        """Repeat a request until the response is not a temporary error."""
        while True:
            url = "" if path.startswith("http") else self._load.url()
            try:
                if method == "POST":
                    response = await self._post(url, TIMEOUT_S)
                else:
                    response = await self._http.request(method, url + path)
            except httpx.TransportError as error:
                self._record_error(f"{method}: {type(error).__name__}")
            else:
                # The failure of a job is final: its response is a problem with a Location header.
                if response.status_code < 500 and response.status_code != 429:
                    return response
                if method == "POST" and "Location" in response.headers:
                    return response
                self._record_error(f"{method}: {response.status_code}")
            await asyncio.sleep(RETRY_S)

    async def _post(self, url: str, timeout: float) -> httpx.Response:
        request = self._request
        headers = {"Idempotency-Key": self._key}
        if self._behaviour not in (Behaviour.WAIT, Behaviour.DISCONNECT):
            headers["Prefer"] = "respond-async"
        return await self._http.post(
            f"{url}/v1/{request.task}", json=request.body, headers=headers, timeout=timeout
        )

    def _record_error(self, error: str) -> None:
        self._observations.errors.append((time.time(), error))


def _batch_of(request: LoadRequest) -> LoadRequest:
    """Return a batch whose jobs all give the images of a request."""
    body = {name: value for name, value in request.body.items() if name != "prompt"}
    return LoadRequest("batches", body | {"prompts": [request.body["prompt"]] * BATCH_JOBS})


def compare_with_list(url: str, observations: Observations) -> None:
    """Note deleted jobs that an API has, and finished jobs that it does not list."""
    with httpx.Client(base_url=url, timeout=TIMEOUT_S) as http:
        listed: dict[str, JobState] = {}
        cursor: dict[str, str] = {}
        while True:
            page = http.get("/v1/jobs", params={"limit": "100"} | cursor).raise_for_status().json()
            listed |= {job["id"]: JobState(job["state"]) for job in page["jobs"]}
            if "next_cursor" not in page:
                break
            cursor = {"cursor": page["next_cursor"]}
        for job_id in observations.deleted:
            if job_id in listed or http.get(f"/v1/jobs/{job_id}").status_code != 404:
                observations.undead.add(job_id)
        for job_id in observations.accepted.keys() - observations.deleting - listed.keys():
            if http.get(f"/v1/jobs/{job_id}").status_code == 200:
                observations.unlisted.add(job_id)


def error_counts(errors: Sequence[tuple[float, str]]) -> str:
    """Return the errors as text: `GET: 503 ×4, POST: ReadError ×2`."""
    counts = Counter(error for _, error in errors)
    return ", ".join(f"{error} ×{times}" for error, times in counts.most_common())


def _digests(body: dict[str, Any]) -> list[str]:
    return [_digest(base64.b64decode(image["base64"])) for image in body["images"]]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _gradient(width: int, height: int, rng: random.Random) -> str:
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    image.putpixel((rng.randrange(width), rng.randrange(height)), (255, 0, 0))
    return _encoded(image)


def _mask(width: int, height: int) -> str:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (8, 8, width - 8, height - 8))
    return _encoded(mask)


def _encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
