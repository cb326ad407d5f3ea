"""FP8 matrices (float8 e4m3) with a scale per row."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max  # 448
# The scale of a row of zeros, so that no division is by zero.
SMALLEST_SCALE = 1e-12


class Fp8Rows(NamedTuple):
    """A matrix (M, K) as float8 `values` times a scale for every row, (M, 1) float32."""

    values: Tensor
    scales: Tensor
