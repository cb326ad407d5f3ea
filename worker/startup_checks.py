"""Checks of the settings against this machine, before a model is loaded."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from models.executors import compiled, openvino
from models.loading.loader import default_device
from models.networks.attention import available_kernels
from protocol.listening import free_port
from protocol.registry.models_config import InvalidModelsConfig, read_models_config
from protocol.startup import (
    InvalidSettings,
    check_readable_folder,
    check_writable_folder,
    invalid_setting,
)
from protocol.storage.object_store import check_store
from worker.model_info.sources import locate
from worker.model_info.weights_dtype import weights_dtype
from worker.settings import WorkerSettings

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def checked_device(settings: WorkerSettings) -> torch.device:
    """Return the device of the models. Raises InvalidSettings for what this machine lacks."""
    device = _device(settings)
    _check_networks(settings, device)
    check_store(settings.object_store_url)
    check_readable_folder("DARKROOM_MODELS_HOME", settings.models_home)
    if settings.install_owners:
        check_writable_folder("DARKROOM_MODELS_HOME", settings.models_home)
    if "worker_cache" in settings.model_fields_set:  # the default may be read-only: a warning tells
        check_writable_folder("DARKROOM_WORKER_CACHE", settings.worker_cache)
    _check_models(settings)
    variables = ("DARKROOM_WORKER_METRICS_HOST", "DARKROOM_WORKER_METRICS_PORT")
    free_port(settings.worker_metrics_host, 0, variables)  # a port that is taken is no error
    return device


def _device(settings: WorkerSettings) -> torch.device:
    if settings.device == "auto":
        return default_device()
    device = torch.device(settings.device)
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    present = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), *gpus]
    if str(device) not in present and not (str(device) == "cuda" and gpus):
        bound = f"a device of this machine: auto, {', '.join(present)}"
        raise invalid_setting("DARKROOM_DEVICE", settings.device, bound)
    return device


def _check_networks(settings: WorkerSettings, device: torch.device) -> None:
    """Check what the networks run with: precision, attention kernel, executor."""
    try:
        weights_dtype(device, settings.worker_precision)
    except ValueError as error:
        raise InvalidSettings(f"DARKROOM_WORKER_PRECISION: {error}") from error
    kernels = available_kernels()
    if settings.worker_attention not in ("auto", *kernels):
        bound = f"one of auto, {', '.join(kernels)} on this machine"
        raise invalid_setting("DARKROOM_WORKER_ATTENTION", settings.worker_attention, bound)
    missing = {"openvino": not openvino.available(), "compile": not compiled.available()}
    if device.type == "cpu" and missing.get(settings.worker_executor):
        bound = "an executor that is available on this machine, such as auto"
        raise invalid_setting("DARKROOM_WORKER_EXECUTOR", settings.worker_executor, bound)


def _check_models(settings: WorkerSettings) -> None:
    """Check that the models config can be read, or that the single model may exist."""
    if settings.catalogue is not None:
        try:
            read_models_config(settings.catalogue)
        except InvalidModelsConfig as error:
            raise InvalidSettings(f"DARKROOM_CATALOGUE: {error}") from error
        return
    if settings.model in (None, "bundled"):
        return
    source = locate(settings.model, settings.models_home / "models")
    if not HUB_ID.fullmatch(source) and not Path(source).exists():
        bound = "a folder, a file, an installed model or owner/name of the hub; there is none"
        raise invalid_setting("DARKROOM_MODEL", settings.model, bound)
