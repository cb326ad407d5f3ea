"""Redis commands and traffic of idle programs and of each job.

    python -m bench redis_traffic [--jobs 40]

The whole service runs with the bundled model, over HTTP, on a separate Redis server. Its counters
are read before and after (`INFO commandstats`, `stats` and `cpu`). Commands that a script calls
count too, as the server counts them. The traffic of the idle programs is subtracted from the
figures of a job.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from redis import Redis

from bench.common.report import arguments, publish, table
from tests.support.local_stack import running_stack
from tests.support.redis_server import RedisServer

BODY = {"prompt": "red heart", "steps": 20, "response": "url"}
POLL_S = 0.25
COUNTERS = ("total_net_input_bytes", "total_net_output_bytes")
SHOWN = 10  # commands


@dataclass(frozen=True)
class Start:
    """Time at which the counters were reset, and the CPU seconds of the main thread until then,
    which cannot be reset."""

    at: float
    busy_s: float


@dataclass(frozen=True)
class Traffic:
    """Traffic of the server: commands by name, bytes both ways, CPU seconds of its main thread."""

    seconds: float
    commands: Counter[str]
    received: float
    sent: float
    busy_s: float

    @classmethod
    def since(cls, start: Start, redis: Redis) -> Traffic:
        """Return the traffic from `start` until now."""
        stats: dict[str, Any] = redis.info("everything")
        commands = Counter(
            {
                name.removeprefix("cmdstat_"): figures["calls"]
                for name, figures in stats.items()
                if name.startswith("cmdstat_")
            }
        )
        received, sent = (stats[name] for name in COUNTERS)
        seconds = time.monotonic() - start.at
        return cls(seconds, commands, received, sent, _main_thread_s(stats) - start.busy_s)

    def without(self, idle: Traffic) -> Traffic:
        """Return this traffic minus that of idle programs in the same time."""
        share = self.seconds / idle.seconds
        commands = Counter(
            {name: calls - share * idle.commands[name] for name, calls in self.commands.items()}
        )
        return Traffic(
            self.seconds,
            commands,
            self.received - share * idle.received,
            self.sent - share * idle.sent,
            self.busy_s - share * idle.busy_s,
        )

    def each(self, parts: float) -> dict[str, Any]:
        """Return the figures divided by `parts`."""
        return {
            "commands": sum(self.commands.values()) / parts,
            "received_bytes": self.received / parts,
            "sent_bytes": self.sent / parts,
            "busy_ms": 1000 * self.busy_s / parts,
            "by_command": {
                name: calls / parts
                for name, calls in self.commands.most_common(SHOWN)
                if calls / parts >= 0.05
            },
        }


@dataclass(frozen=True)
class Measured:
    """Traffic a second of an idle API and worker; traffic of a job whose client waits, or polls."""

    idle_second: dict[str, Any]
    waited_for: dict[str, Any]
    polled: dict[str, Any]
    memory_per_finished_job: float


def waits(client: httpx.Client) -> None:
    client.post("/v1/txt2img", json=BODY).raise_for_status()


def polls(client: httpx.Client) -> None:
    """Submit a job, then request its status every quarter of a second until it is finished."""
    response = client.post("/v1/txt2img", json=BODY, headers={"Prefer": "respond-async"})
    while client.get(response.headers["Location"]).json()["state"] != "finished":
        time.sleep(POLL_S)


def measure(jobs: int, seconds: float) -> Measured:
    """Measure `seconds` of idle programs, then `jobs` of each kind, one after the other."""
    with RedisServer() as server, _connected(server) as (redis, client):
        waits(client)  # scripts are loaded, prompts are cached
        start = reset_counters(redis)
        time.sleep(seconds)
        idle = Traffic.since(start, redis)
        before = _memory(redis)
        waited_for = _of_jobs(redis, client, waits, jobs).without(idle)
        polled = _of_jobs(redis, client, polls, jobs).without(idle)
        kept = (_memory(redis) - before) / (2 * jobs)
        return Measured(idle.each(idle.seconds), waited_for.each(jobs), polled.each(jobs), kept)


def _of_jobs(
    redis: Redis, client: httpx.Client, ask: Callable[[httpx.Client], None], jobs: int
) -> Traffic:
    start = reset_counters(redis)
    for _ in range(jobs):
        ask(client)
    return Traffic.since(start, redis)


def reset_counters(redis: Redis) -> Start:
    """Reset the counters of the server; returns the time."""
    redis.config_resetstat()
    cpu: dict[str, Any] = redis.info("cpu")
    return Start(time.monotonic(), _main_thread_s(cpu))


def _main_thread_s(cpu: dict[str, Any]) -> float:
    return float(cpu["used_cpu_user_main_thread"]) + float(cpu["used_cpu_sys_main_thread"])


def _memory(redis: Redis) -> int:
    memory: dict[str, Any] = redis.info("memory")
    return int(memory["used_memory_dataset"])


@contextmanager
def _connected(server: RedisServer) -> Iterator[tuple[Redis, httpx.Client]]:
    with (
        running_stack(REDIS_URL=server.url) as url,
        Redis.from_url(server.url) as redis,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        yield redis, client


def main() -> None:
    parser = arguments("redis_traffic", __doc__)
    parser.add_argument("--jobs", type=int, default=40, help="jobs of each kind")
    given = parser.parse_args()
    measured = measure(3, 2.0) if given.smoke else measure(given.jobs, 10.0)
    kinds = {
        "one second, all idle": measured.idle_second,
        "one job, client waits": measured.waited_for,
        "one job, client polls": measured.polled,
    }
    columns = ("commands", "received_bytes", "sent_bytes", "busy_ms")
    traffic_table = table(
        "Redis traffic",
        ("unit", *columns),
        ((kind, *(figures[name] for name in columns)) for kind, figures in kinds.items()),
    )
    publish(
        "redis_traffic", given, "cpu", [traffic_table], {"jobs": given.jobs, **asdict(measured)}
    )


if __name__ == "__main__":
    main()
