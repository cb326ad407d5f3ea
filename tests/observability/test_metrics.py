"""Tests of the metrics: fixed label values, no client data, and no side effects of a scrape."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.processes import wait_until
from tests.observability.fake_nvml import FakeNvml
from tests.observability.programs import FAKE_WORKER, ObservedStack, observed_stack
from worker.telemetry.gpu import NVML, GpuCollector, gpu_collector
from worker.telemetry.metrics import shape_label

SECRET = "canary-in-the-coal-mine"
LABELS = {
    "darkroom_http_requests": {"method", "route", "status"},
    "darkroom_http_request_seconds": {"route", "le"},
    "darkroom_http_problems": {"problem"},
    "darkroom_webhooks": {"outcome"},
    "darkroom_queue_depth": {"model", "priority", "state"},
    "darkroom_queue_oldest_seconds": {"model", "priority"},
    "darkroom_queue_wait_seconds": {"priority", "le"},
    "darkroom_redis_seconds": {"le"},
    "darkroom_redis_errors": {"error"},
    "darkroom_store_seconds": {"operation", "le"},
    "darkroom_store_errors": {"operation"},
    "darkroom_event_loop_lag_seconds": {"le"},
    "darkroom_workers": {"model", "state"},
    "darkroom_worker_batch_rows": {"shape", "le"},
    "darkroom_worker_failures": {"reason"},
    "darkroom_worker_jobs": {"state"},
    "darkroom_worker_model_loads": {"outcome"},
    "darkroom_worker_phase_seconds": {"phase", "le"},
    "darkroom_worker_retries": {"reason"},
    "darkroom_worker_step_seconds": {"le"},
    "rq_jobs": {"queue", "status"},
    "rq_workers": {"name", "state", "queues"},
    "rq_workers_failed": {"name", "queues"},
    "rq_workers_success": {"name", "queues"},
    "rq_workers_working_time": {"name", "queues"},
}


def scraped(address: str) -> str:
    response = httpx.get(f"http://{address}/metrics", timeout=60)
    response.raise_for_status()
    return response.text


def both(stack: ObservedStack) -> str:
    return scraped(stack.api.address) + scraped(stack.workers[0].address)


def labels_of(text: str) -> dict[str, set[str]]:
    """Return the label names of each family that has labels."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels:
                found.setdefault(family.name, set()).update(sample.labels)
    return found


def test_labels_contain_no_client_data(stack: ObservedStack) -> None:
    headers = {"X-Request-Id": SECRET, "X-API-Key": SECRET}
    stack.generate(SECRET, negative_prompt=SECRET).raise_for_status()
    job = stack.generate("refuse", wait=False).json()["id"]
    stack.client.get(f"/{SECRET}", headers=headers)
    stack.client.request("PURGE", f"/{SECRET}", headers=headers)
    stack.generate(SECRET, wait=True, **{"model": SECRET, SECRET: SECRET})
    wait_until(lambda: 'reason="JobFailed"' in both(stack), "the failed job is counted")
    text = both(stack)
    assert SECRET not in text
    assert job not in text
    found = labels_of(text)
    process = {"python_info"}
    assert {name: names for name, names in found.items() if name not in process} == {
        name: names for name, names in LABELS.items() if name in found
    }
    # Families without samples yet are missing.
    assert LABELS.keys() - found.keys() <= {"darkroom_redis_errors"}
    assert 'method="other"' in text


def test_counts_of_the_engine_are_scraped(stack: ObservedStack) -> None:
    stack.generate().raise_for_status()
    families = text_string_to_metric_families(scraped(stack.workers[0].address))
    counts = {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert counts["darkroom_worker_decoded_again_total"] == 1  # by the fake worker's engine
    assert counts["darkroom_worker_prompt_cache_hits_total"] > 0
    assert counts["darkroom_worker_prompt_cache_misses_total"] > 0


def test_scrape_has_no_side_effects(stack: ObservedStack) -> None:
    stack.generate().raise_for_status()
    stack.generate("refuse")
    with redis.Redis.from_url(stack.redis.url) as client:

        def rq_records() -> dict[bytes, object]:
            """Return RQ's records without those of workers, which heartbeats change."""
            keys = [key for key in client.scan_iter("rq:*") if not key.startswith(b"rq:worker")]
            return {key: client.dump(key) for key in keys}

        before = rq_records()
        # The entry of an expired job, which RQ's own counting would remove.
        client.zadd("rq:deferred:darkroom-fake", {"expired-long-ago": 1})
        for _ in range(3):
            assert 'status="deferred"} 1.0' in scraped(stack.api.address)
        assert client.zrem("rq:deferred:darkroom-fake", "expired-long-ago") == 1
        assert rq_records() == before


def test_buckets_reach_twenty_minutes(stack: ObservedStack) -> None:
    stack.generate().raise_for_status()
    text = both(stack)
    assert 'darkroom_http_request_seconds_bucket{le="1200.0",route="/v1/txt2img"}' in text
    assert 'darkroom_worker_phase_seconds_bucket{le="1200.0",phase="total"}' in text
    assert 'darkroom_queue_wait_seconds_bucket{le="1200.0",priority="normal"}' in text


def test_redis_outage_is_reported_with_the_other_metrics(tmp_path: Path) -> None:
    with observed_stack(tmp_path, FAKE_WORKER) as stack:
        assert "darkroom_redis_up 1.0" in scraped(stack.api.address)
        stack.redis.pause()  # it hangs, which is worse than an ended server
        text = scraped(stack.api.address)
        stack.redis.resume()
        assert "darkroom_redis_up 0.0" in text
        assert "darkroom_http_requests_total" in text
        assert "darkroom_queue_depth{" not in text


def test_few_shape_labels() -> None:
    assert shape_label(512, 512) == "512"
    assert shape_label(512, 768) == "640"
    assert shape_label(64, 64) == "64"
    sizes = range(64, 2049, 8)
    assert len({shape_label(width, height) for width in sizes for height in sizes}) == 32


def gpu_figures(collector: GpuCollector) -> str:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def test_gpu_metrics_with_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, NVML, nvml)
    collector = gpu_collector(FakeNvml.UUID)
    assert collector is not None
    text = gpu_figures(collector)
    assert f"darkroom_gpu_memory_used_bytes {20 * 2**30:.10e}".split(" ", maxsplit=1)[0] in text
    assert "darkroom_gpu_utilisation_ratio 0.75" in text
    nvml.lost = True  # as when a GPU falls off the bus
    assert "darkroom_gpu" not in gpu_figures(collector)


def test_no_gpu_metrics_without_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NVML, None)
    assert gpu_collector(FakeNvml.UUID) is None
    monkeypatch.setitem(sys.modules, NVML, FakeNvml())
    assert gpu_collector("GPU-unknown") is None
