"""What an engine counts by itself, read when Prometheus asks."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.interfaces import Engine


class EngineCollector(Collector):
    """The prompt cache: how often an encoding was found, and how often it had to be made."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        stats = self._engine.stats
        yield CounterMetricFamily(
            "darkroom_worker_prompt_cache_hits",
            "Prompts whose encoding was kept.",
            value=stats.cache_hits,
        )
        yield CounterMetricFamily(
            "darkroom_worker_prompt_cache_misses",
            "Prompts that had to be encoded.",
            value=stats.cache_misses,
        )
