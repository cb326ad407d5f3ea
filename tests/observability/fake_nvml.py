"""NVIDIA's management library, as far as we ask it, over one GPU that is not there."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

GIBIBYTE = 2**30


class NVMLError(Exception):
    """What the real one raises."""


class FakeNvml:
    """Stands for the module; `is_full` says whether the GPU's memory is."""

    UUID = "GPU-00000000-0000-0000-0000-000000000001"
    NVMLError = NVMLError

    def __init__(self, is_full: Callable[[], bool] = lambda: False) -> None:
        self._is_full = is_full
        self.lost = False

    def nvmlInit(self) -> None:
        """Nothing to prepare."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != self.UUID:
            raise NVMLError
        return uuid

    def nvmlDeviceGetMemoryInfo(self, gpu: str) -> SimpleNamespace:
        if self.lost:
            raise NVMLError
        used = 80 if self._is_full() else 20
        return SimpleNamespace(used=used * GIBIBYTE, total=80 * GIBIBYTE)

    def nvmlDeviceGetUtilizationRates(self, gpu: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=75, memory=50)
