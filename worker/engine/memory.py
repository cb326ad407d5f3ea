"""Free memory of the device."""

from __future__ import annotations

from math import inf

import torch

MEMORY_SHARE = 0.85  # of what is free, for steps; the rest is for decoding and for fragmentation


def free_bytes(device: torch.device) -> float:
    """Return the bytes that steps may use.

    Not bounded on devices other than CUDA: there the system swaps instead of failing, and the
    memory that a step took cannot be measured.
    """
    if device.type != "cuda":
        return inf
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return MEMORY_SHARE * (free + cached)
