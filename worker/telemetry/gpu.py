"""Metrics of the GPU of this worker, from NVIDIA's management library (NVML) if installed."""

import importlib
import logging
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

NVML = "pynvml"  # the module of the package nvidia-ml-py, of the extra `gpu`


class GpuCollector(Collector):
    """One GPU, identified by its UUID, which does not depend on CUDA_VISIBLE_DEVICES."""

    def __init__(self, nvml: Any, uuid: str) -> None:
        """`nvml` is the module, initialised. Raises its NVMLError for an unknown GPU."""
        self._nvml = nvml
        self._gpu = nvml.nvmlDeviceGetHandleByUUID(uuid)

    def collect(self) -> Iterator[Metric]:
        """Yield memory and utilisation, or nothing while NVML reports an error."""
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._gpu)
            use = self._nvml.nvmlDeviceGetUtilizationRates(self._gpu)
        except self._nvml.NVMLError:
            return
        yield GaugeMetricFamily(
            "darkroom_gpu_memory_used_bytes", "Memory of the GPU in use.", value=memory.used
        )
        yield GaugeMetricFamily(
            "darkroom_gpu_memory_total_bytes", "Memory of the GPU.", value=memory.total
        )
        yield GaugeMetricFamily(
            "darkroom_gpu_utilisation_ratio",
            "Share of the last sample period in which the GPU was busy.",
            value=use.gpu / 100,
        )


def gpu_collector(uuid: str) -> GpuCollector | None:
    """Return the collector of the GPU `uuid`, or None if NVML is not available."""
    try:
        nvml = importlib.import_module(NVML)
    except ImportError:
        logger.info("no GPU metrics: nvidia-ml-py is not installed")
        return None
    try:
        nvml.nvmlInit()
        return GpuCollector(nvml, uuid)
    except nvml.NVMLError as error:
        logger.warning("no GPU metrics", extra={"error": type(error).__name__})
        return None
