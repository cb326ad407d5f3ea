"""The precision in which a model's weights are loaded."""

from __future__ import annotations

import torch

from models.loading.loader import default_dtype


def weights_dtype(device: torch.device, precision: str) -> torch.dtype:
    """Return the dtype of weights. Raises ValueError for a precision the device does not support.

    On a CPU weights are float32, and an executor may compute in bfloat16. On a GPU with FP8, the
    layers that pass a quality check are FP8 and the rest has half precision.
    """
    possible = {"cpu": ("auto", "fp32", "bf16")}.get(device.type, ("auto", "fp32", "fp16", "fp8"))
    if precision not in possible:
        raise ValueError(
            f"precision is {precision!r}, but on {device.type} it is one of {', '.join(possible)}"
        )
    return torch.float32 if precision == "fp32" else default_dtype(device)
