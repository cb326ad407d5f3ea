"""Build the images, start the compose file, draw through it, kill a worker, take all of it down.

    make compose-test          needs root, podman, runc and debootstrap, and some minutes

Dockerfile, docker-compose.yml and .env.example are taken as they are. What could not be pulled on a
machine without a registry is replaced by images of the same names from Debian (`images.sh`).
Grafana and the bucket have no such stand-in and are left out.
"""

import base64
import json
import os
import signal
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from deploy.compose_test.stack import Stack, free_port, secret

FOLDER = Path(__file__).resolve().parents[2] / "var" / "compose-test"
SERVICES = ("redis", "api", "worker", "prometheus")
PATIENCE_S = 180.0
# The pictures of one job are drawn by one worker, which has eight slots: while more than eight
# pictures are drawn, both workers hold some.
JOBS, PICTURES_PER_JOB, SLOTS = 12, 2, 8
RECIPE = {"prompt": "red heart", "steps": 100, "n": PICTURES_PER_JOB}


class LocalStack:
    """The running service, as a client with a key sees it."""

    def __init__(self, port: str, key: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.key = key

    def ask(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        """The JSON answered to GET `path`, or to POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, {**sent, **headers})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def workers(self) -> int:
        """How many workers are ready."""
        try:
            return len(self.ask("/readyz")["workers"])
        except (urllib.error.URLError, ConnectionError):
            return 0

    def picture(self, job: str, index: int) -> bytes:
        answer = self.ask(f"/v1/jobs/{job}")["result"]["images"][index]
        request = urllib.request.Request(answer["url"].replace("http://localhost", self.url))
        request.add_header("Authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=60) as file:
            data: bytes = file.read()
            return data


@contextmanager
def said(what: str) -> Iterator[None]:
    """Print `what` with how long the block took."""
    began = time.monotonic()
    yield
    print(f"ok  {what}  ({time.monotonic() - began:.1f} s)", flush=True)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for `condition`, for minutes at most."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}")
        time.sleep(0.2)


def is_hardened(stack: Stack, container: str) -> None:
    """No root, no capability, no way to gain one, and a root file system that cannot be written."""
    script = 'id -u; sed -n "s/^\\(CapEff\\|NoNewPrivs\\|Seccomp\\):\\t//p" /proc/1/status'
    user, capabilities, no_new_privileges, seccomp = stack.podman(
        "exec", container, "sh", "-c", script
    ).split()
    assert user != "0", f"{container} runs as root"
    assert int(capabilities, 16) == 0, f"{container} has capabilities {capabilities}"
    assert (no_new_privileges, seccomp) == ("1", "2"), f"{container} may gain privileges"
    assert not stack.succeeds("exec", container, "touch", "/written"), f"{container} writes to /"


def draws(house: LocalStack) -> bytes:
    """A picture, drawn alone; its recipe is the first of those drawn in the crowd."""
    answer = house.ask("/v1/txt2img", {**RECIPE, "seed": 0})
    picture = base64.b64decode(answer["images"][0]["base64"])
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    return picture


def survives_a_kill(stack: Stack, house: LocalStack, alone: bytes) -> None:
    """Kill one of two workers while both draw: every job ends well, with the same bytes."""
    ids = [
        house.ask("/v1/txt2img", {**RECIPE, "seed": seed}, Prefer="respond-async")["id"]
        for seed in range(JOBS)
    ]

    def states() -> list[str]:
        return [house.ask(f"/v1/jobs/{job}")["state"] for job in ids]

    until(lambda: states().count("running") * PICTURES_PER_JOB > SLOTS, "both workers to draw")
    [first, _] = stack.containers("worker")
    os.kill(int(stack.podman("inspect", "--format", "{{.State.Pid}}", first)), signal.SIGKILL)
    unfinished = [state for state in states() if state != "finished"]
    with said(f"a worker killed with {len(unfinished)} jobs unfinished; all {JOBS} then finished"):
        until(lambda: set(states()) <= {"finished", "failed", "cancelled"}, "every job to end")
        assert set(states()) == {"finished"}, states()
    assert house.picture(ids[0], 0) == alone, "drawn in a crowd, other bytes than alone"
    with said("compose started that worker again"):
        until(lambda: len(stack.containers("worker")) == 2 and house.workers() == 2, "a restart")


def prometheus_says(port: str, query: str) -> dict[str, float]:
    """The values of `query` now, by job and instance."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
    except (urllib.error.URLError, ConnectionError):
        return {}
    return {
        f"{one['metric'].get('job')} {one['metric'].get('instance')}": float(one["value"][1])
        for one in found
    }


def check(stack: Stack, house: LocalStack, prometheus: str) -> None:
    with said("two workers are ready"):
        until(lambda: house.workers() == 2, "two workers")
    for service in SERVICES:
        for container in stack.containers(service):
            is_hardened(stack, container)
            until(partial(stack.succeeds, "healthcheck", "run", container), container)
    print("ok  every container: not root, no capabilities, read-only, and healthy by its own check")
    try:
        LocalStack(house.url.rpartition(":")[2], "").ask("/v1/models")
        raise AssertionError("no key was needed")
    except urllib.error.HTTPError as error:
        assert error.code == 401, error
    print("ok  without a key: 401")
    with said("a picture, drawn alone"):
        alone = draws(house)
    survives_a_kill(stack, house, alone)
    with said("Prometheus scrapes the API and both workers"):
        until(lambda: list(prometheus_says(prometheus, "up").values()).count(1.0) >= 3, "targets")
    with said("and learns that the queue is empty again"):
        query = "sum(darkroom_queue_depth)"
        until(lambda: [*prometheus_says(prometheus, query).values()] == [0.0], "an empty queue")


def main() -> int:
    """The exit status: 0 if all went well."""
    api, prometheus, key = free_port(), free_port(), secret()
    settings = {"PUBLISH_PORT": api, "PROMETHEUS_PORT": prometheus, "WORKERS": "2"}
    settings |= {name: secret() for name in ("REDIS_PASSWORD", "GRAFANA_PASSWORD")}
    # Two workers are compared byte by byte, and each would measure beside the other's noise.
    settings |= {"DARKROOM_WORKER_EXECUTOR": "openvino", "DARKROOM_WORKER_PRECISION": "fp32"}
    stack = Stack(FOLDER, {**settings, "DARKROOM_ADMIN_KEY": key})
    print("stand-ins made from Debian packages: python, redis, prom/prometheus")
    print("not to be had here, so not started: grafana, s3; worker-gpu wants a GPU")
    status = 0
    try:
        with said("images built from the unmodified Dockerfile"):
            stack.make_images()
        with said("the unmodified compose file: Redis, API, two workers, Prometheus"):
            stack.up(*SERVICES)
        check(stack, LocalStack(api, key), prometheus)
    except Exception:
        traceback.print_exc()
        print(stack.logs(), file=sys.stderr)
        status = 1
    with said("torn down"):
        stack.down()
        left = stack.podman("ps", "--all", "--quiet") + stack.podman("volume", "ls", "--quiet")
        assert left == "", left
    print("all well" if status == 0 else "FAILED")
    return status


if __name__ == "__main__":
    sys.exit(main())
