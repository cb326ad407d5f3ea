"""Metrics of a worker, read over HTTP."""

import socket
import urllib.request

from protocol.queue.job import JobState
from tests.worker.consumer.harness import job_queue, outcome, request, running_worker, settings
from worker.telemetry.metrics import Metrics


def scraped(metrics: Metrics) -> dict[str, float]:
    """Return every sample by its name and labels, as Prometheus writes them."""
    server = metrics.serve("127.0.0.1", 0)
    assert server is not None
    try:
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        with urllib.request.urlopen(address) as response:
            lines = response.read().decode().splitlines()
    finally:
        server.shutdown()
        server.server_close()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def test_jobs_are_counted_by_their_final_state(redis_url: str) -> None:
    queue = job_queue(redis_url)
    metrics = Metrics()
    with running_worker(settings(redis_url), metrics=metrics):
        assert outcome(queue, queue.submit(request(n=2, steps=4))).state is JobState.FINISHED
        assert outcome(queue, queue.submit(request(prompt="refuse"))).state is JobState.FAILED
    samples = scraped(metrics)
    assert samples["darkroom_worker_images_total"] == 2
    assert samples['darkroom_worker_jobs_total{state="finished"}'] == 1
    assert samples['darkroom_worker_jobs_total{state="failed"}'] == 1
    assert samples['darkroom_worker_failures_total{reason="JobFailed"}'] == 1
    assert samples["darkroom_worker_step_seconds_count"] == 4
    assert samples['darkroom_worker_batch_rows_count{shape="0"}'] == 4
    assert samples["darkroom_worker_padding_rows_total"] == 0
    assert samples['darkroom_queue_wait_seconds_count{priority="normal"}'] == 2
    assert samples['darkroom_worker_phase_seconds_sum{phase="denoise"}'] == 0.2
    assert samples["darkroom_worker_held_jobs"] == 0


def test_metrics_are_not_served_if_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert Metrics().serve("127.0.0.1", taken.getsockname()[1]) is None
