"""Metrics that the engine counts itself, read when Prometheus collects them."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.interfaces import Engine


class EngineCollector(Collector):
    """Hits and misses of the cache of encoded prompts, and images decoded again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        stats = self._engine.stats
        yield CounterMetricFamily(
            "darkroom_worker_prompt_cache_hits",
            "Prompts found in the cache of encoded prompts.",
            value=stats.cache_hits,
        )
        yield CounterMetricFamily(
            "darkroom_worker_prompt_cache_misses",
            "Prompts that had to be encoded.",
            value=stats.cache_misses,
        )
        yield CounterMetricFamily(
            "darkroom_worker_decoded_again",
            "Images decoded again in single precision, because half precision overflowed.",
            value=stats.decoded_again,
        )
