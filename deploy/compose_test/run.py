"""Build the containers, start the compose file, generate images, kill a worker, remove everything.

    make compose-test          needs root, podman, runc and debootstrap, and some minutes

Dockerfile, docker-compose.yml and .env.example are used unchanged. Container images that cannot be
pulled on a machine without a registry are replaced by images of the same names from Debian
(`images.sh`). Grafana and the bucket have no such replacement and are not started.
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
# One worker, with eight slots, generates all images of a job: while more than eight images are
# generated, both workers hold some.
JOBS, IMAGES_PER_JOB, SLOTS = 12, 2, 8
PARAMETERS = {"prompt": "red heart", "steps": 100, "n": IMAGES_PER_JOB}


class Client:
    """A client of the running service with an API key."""

    def __init__(self, port: str, key: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.key = key

    def call(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        """Return the JSON response to GET `path`, or to POST if there is a body."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, {**sent, **headers})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def workers(self) -> int:
        """Return the number of ready workers."""
        try:
            return len(self.call("/readyz")["workers"])
        except (urllib.error.URLError, ConnectionError):
            return 0

    def image(self, job: str, index: int) -> bytes:
        answer = self.call(f"/v1/jobs/{job}")["result"]["images"][index]
        request = urllib.request.Request(answer["url"].replace("http://localhost", self.url))
        request.add_header("Authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=60) as file:
            data: bytes = file.read()
            return data


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print `what` with the duration of the block."""
    began = time.monotonic()
    yield
    print(f"ok  {what}  ({time.monotonic() - began:.1f} s)", flush=True)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for `condition`, for `PATIENCE_S` at most."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}")
        time.sleep(0.2)


def is_hardened(stack: Stack, container: str) -> None:
    """Check for no root, no capability, no way to gain one, and a read-only root file system."""
    script = 'id -u; sed -n "s/^\\(CapEff\\|NoNewPrivs\\|Seccomp\\):\\t//p" /proc/1/status'
    user, capabilities, no_new_privileges, seccomp = stack.podman(
        "exec", container, "sh", "-c", script
    ).split()
    assert user != "0", f"{container} runs as root"
    assert int(capabilities, 16) == 0, f"{container} has capabilities {capabilities}"
    assert (no_new_privileges, seccomp) == ("1", "2"), f"{container} can gain privileges"
    assert not stack.succeeds("exec", container, "touch", "/written"), f"{container} writes to /"


def generate_alone(client: Client) -> bytes:
    """Return an image generated alone, with the parameters of the first one in the batch."""
    answer = client.call("/v1/txt2img", {**PARAMETERS, "seed": 0})
    image = base64.b64decode(answer["images"][0]["base64"])
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    return image


def survives_a_kill(stack: Stack, client: Client, alone: bytes) -> None:
    """Kill one of two busy workers and check that every job finishes with the same bytes."""
    ids = [
        client.call("/v1/txt2img", {**PARAMETERS, "seed": seed}, Prefer="respond-async")["id"]
        for seed in range(JOBS)
    ]

    def states() -> list[str]:
        return [client.call(f"/v1/jobs/{job}")["state"] for job in ids]

    until(lambda: states().count("running") * IMAGES_PER_JOB > SLOTS, "both workers to be busy")
    [first, _] = stack.containers("worker")
    os.kill(int(stack.podman("inspect", "--format", "{{.State.Pid}}", first)), signal.SIGKILL)
    unfinished = [state for state in states() if state != "finished"]
    with step(f"a worker killed with {len(unfinished)} jobs unfinished; all {JOBS} then finished"):
        until(lambda: set(states()) <= {"finished", "failed", "cancelled"}, "every job to end")
        assert set(states()) == {"finished"}, states()
    assert client.image(ids[0], 0) == alone, "the bytes differ from those generated alone"
    with step("compose started that worker again"):
        until(lambda: len(stack.containers("worker")) == 2 and client.workers() == 2, "a restart")


def query_prometheus(port: str, query: str) -> dict[str, float]:
    """Return the current values of `query`, by job and instance."""
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


def check(stack: Stack, client: Client, prometheus: str) -> None:
    with step("two workers are ready"):
        until(lambda: client.workers() == 2, "two workers")
    for service in SERVICES:
        for container in stack.containers(service):
            is_hardened(stack, container)
            until(partial(stack.succeeds, "healthcheck", "run", container), container)
    print("ok  every container: not root, no capabilities, read-only, and its health check passes")
    try:
        Client(client.url.rpartition(":")[2], "").call("/v1/models")
        raise AssertionError("no key was needed")
    except urllib.error.HTTPError as error:
        assert error.code == 401, error
    print("ok  without a key: 401")
    with step("an image, generated alone"):
        alone = generate_alone(client)
    survives_a_kill(stack, client, alone)
    with step("Prometheus scrapes the API and both workers"):
        until(lambda: list(query_prometheus(prometheus, "up").values()).count(1.0) >= 3, "targets")
    with step("Prometheus reads that the queue is empty again"):
        query = "sum(darkroom_queue_depth)"
        until(lambda: [*query_prometheus(prometheus, query).values()] == [0.0], "an empty queue")


def main() -> int:
    """Return the exit status: 0 if all checks passed."""
    api, prometheus, key = free_port(), free_port(), secret()
    settings = {"PUBLISH_PORT": api, "PROMETHEUS_PORT": prometheus, "WORKERS": "2"}
    settings |= {name: secret() for name in ("REDIS_PASSWORD", "GRAFANA_PASSWORD")}
    # Both workers must compute alike, but each would measure while the other one is busy.
    settings |= {"DARKROOM_WORKER_EXECUTOR": "openvino", "DARKROOM_WORKER_PRECISION": "fp32"}
    stack = Stack(FOLDER, {**settings, "DARKROOM_ADMIN_KEY": key})
    print("replaced by images from Debian packages: python, redis, prom/prometheus")
    print("not available, so not started: grafana, s3; worker-gpu needs a GPU")
    status = 0
    try:
        with step("images built from the unmodified Dockerfile"):
            stack.make_images()
        with step("the unmodified compose file: Redis, API, two workers, Prometheus"):
            stack.up(*SERVICES)
        check(stack, Client(api, key), prometheus)
    except Exception:
        traceback.print_exc()
        print(stack.logs(), file=sys.stderr)
        status = 1
    with step("removed"):
        stack.down()
        left = stack.podman("ps", "--all", "--quiet") + stack.podman("volume", "ls", "--quiet")
        assert left == "", left
    print("all passed" if status == 0 else "FAILED")
    return status


if __name__ == "__main__":
    sys.exit(main())
