"""Arithmetic of an image, and the arithmetic rate of the device.

Operations are counted on the meta device by torch's own counter: matrix products and convolutions,
attention included, two operations for a multiplication and an addition. The limit is the highest
rate of plain matrix products, measured in the same run and not taken from a data sheet.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from bench.common.workloads import Workload
from models.autoencoders.first_stage_config import FirstStageConfig
from models.autoencoders.registry import build_first_stage
from models.checkpoints.meta import meta_device
from models.conditioners.clip import text_stages
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.text_encoder import TextEncoder
from models.networks.unet import AddedConditioning, UNet
from models.pipeline import LatentDiffusion

TOKENS = 77
SQUARE = {"cpu": (1024, 2048), "cuda": (4096, 8192, 16384)}  # sides of the matrices
PEAK_S = 0.5  # duration of the measurement for each size
SMOKE_SIDE = 256  # of the matrices of a smoke run


def unet_flops(config: UNetConfig, latent_side: int) -> int:
    """Count the operations of one row through the network."""
    with meta_device():
        network = UNet(config)
        x = torch.empty(1, config.in_channels, latent_side, latent_side)
        width = config.cross_attention_dim
        context = None if width is None else torch.empty(1, TOKENS, width)
        added = _added(config)
        with FlopCounterMode(display=False) as counter:
            network(x, torch.empty(1), context, added)
    return counter.get_total_flops()


def decode_flops(config: FirstStageConfig, latent_side: int) -> int:
    """Count the operations of decoding one image."""
    with meta_device():
        network = build_first_stage(config.to_dict())
        latents = torch.empty(1, config.latent_channels, latent_side, latent_side)
        with FlopCounterMode(display=False) as counter:
            network.decode(latents)
    return counter.get_total_flops()


def encode_flops(config: FirstStageConfig, side: int) -> int:
    """Count the operations of encoding one image."""
    with meta_device():
        network = build_first_stage(config.to_dict())
        with FlopCounterMode(display=False) as counter:
            network.encode(torch.empty(1, config.in_channels, side, side))
    return counter.get_total_flops()


def text_flops(config: TextEncoderConfig) -> int:
    """Count the operations of encoding one row of tokens."""
    with meta_device():
        network = TextEncoder(config)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, TOKENS, dtype=torch.long))
    return counter.get_total_flops()


def image_flops(model: LatentDiffusion, workload: Workload) -> int:
    """Count the operations of one guided image: all its steps, both prompts, decoding."""
    _, latent_side, _ = model.latent_shape(workload.side, workload.side)
    steps = 2 * workload.steps * unet_flops(model.unet.config, latent_side)
    text = 2 * sum(text_flops(stage.encoder.config) for stage in text_stages(model.conditioner))
    return steps + text + decode_flops(model.autoencoder.config, latent_side)


def peak_flops(device: torch.device, dtype: torch.dtype, *, smoke: bool = False) -> float:
    """Measure the operations per second of the fastest square matrix product on `device`.

    It is measured as a matrix product and as a 1 × 1 convolution, because PyTorch uses different
    libraries for the two. With `smoke` only one small product of each is run: a CPU without
    bfloat16 takes seconds for a large one.
    """
    sides, seconds = SQUARE.get(device.type, (2048,)), PEAK_S
    if smoke:
        sides, seconds = (SMOKE_SIDE,), 0.0
    rates = (
        _flops(product, n, device, dtype, seconds) for n in sides for product in (_matmul, _conv)
    )
    return max(rates)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


def _conv(a: Tensor, b: Tensor) -> Tensor:
    return conv2d(a[None, :, :, None], b[:, :, None, None])


@torch.inference_mode()
def _flops(
    product: Callable[[Tensor, Tensor], Tensor],
    side: int,
    device: torch.device,
    dtype: torch.dtype,
    seconds: float,
) -> float:
    """Return the rate of the fastest product within `seconds`; at least one product is run."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best, ends = float("inf"), time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        product(a, b)
        synchronize(device)
        now = time.perf_counter()
        best = min(best, now - started)
        if now >= ends:
            break
    return 2 * side**3 / best


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _added(config: UNetConfig) -> AddedConditioning | None:
    widths = (config.pooled_dim, config.time_ids, config.time_cond_proj_dim)
    return AddedConditioning.of(config, [torch.empty(1, width) for width in widths if width])
