"""Test double of NVIDIA's management library, with one GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

GIBIBYTE = 2**30


class NVMLError(Exception):
    """The error class of the library."""


class FakeNvml:
    """Replacement of the module; the GPU's memory is full while `is_full` returns True."""

    UUID = "GPU-00000000-0000-0000-0000-000000000001"
    NVMLError = NVMLError

    def __init__(self, is_full: Callable[[], bool] = lambda: False) -> None:
        self._is_full = is_full
        self.lost = False

    def nvmlInit(self) -> None:
        """Do nothing."""

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
