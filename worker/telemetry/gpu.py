"""What NVIDIA's management library says of the GPU this worker draws on, where there is one."""

import importlib
import logging
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

NVML = "pynvml"  # the module of the package nvidia-ml-py, of the extra `gpu`


class GpuCollector(Collector):
    """One GPU, by the id that CUDA and NVML agree on, whatever CUDA_VISIBLE_DEVICES says."""

    def __init__(self, nvml: Any, uuid: str) -> None:
        """`nvml`: the module, initialised. Raises what it raises for a GPU it does not know."""
        self._nvml = nvml
        self._gpu = nvml.nvmlDeviceGetHandleByUUID(uuid)

    def collect(self) -> Iterator[Metric]:
        """Nothing while NVML cannot say."""
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
            "Share of the last moments in which the GPU was busy.",
            value=use.gpu / 100,
        )


def gpu_collector(uuid: str) -> GpuCollector | None:
    """The collector of the GPU named `uuid`; None where nobody can tell of it."""
    try:
        nvml = importlib.import_module(NVML)
    except ImportError:
        logger.info("no figures of the GPU: nvidia-ml-py is not installed")
        return None
    try:
        nvml.nvmlInit()
        return GpuCollector(nvml, uuid)
    except nvml.NVMLError as error:
        logger.warning("no figures of the GPU", extra={"error": type(error).__name__})
        return None
