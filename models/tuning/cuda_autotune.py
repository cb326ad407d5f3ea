"""Autotuning of one model on one GPU: every choice made by measurement is made here.

In this order, because each step runs on the result of the one before: FP8 if it is requested and
exact enough, attention kernels, our own kernels, compiled blocks, and graphs of the whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from models.cuda.fp8 import available, on_tensor_cores, quantise_unet
from models.cuda.fused import autotune_fused, autotune_slot_update
from models.cuda.graphs import Graphed, GraphRecorder, Recorder
from models.cuda.regions import compile_regions, release_regions
from models.cuda.rows import ROWS
from models.executors.base import Executors, Network, Run, decoder, denoiser
from models.executors.eager import OneByOne, eager_executors
from models.networks.attention import autotune_attention
from models.networks.attention_autotune import UNSUITABLE, time_call
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from models.tuning.quality import REQUIRED_DB, compare

log = logging.getLogger(__name__)

Size = tuple[int, int]  # width, height in pixels

COMPILE_S = 180.0  # compiling is tried only with this time budget or more
COMPILED_GAIN = 0.03  # by which compiled blocks must be faster to be kept
MEASURED_ROWS = 8  # of the batch for which kernels are chosen


@dataclass(frozen=True)
class CudaOptions:
    """Options of an operator.

    fp8: use FP8 where it is exact enough. autotune_attention: measure, or leave the kernels in the
    UNet's layers unchanged. rows: the most rows in one step. budget_s: the time for tuning.
    """

    fp8: bool = False
    autotune_attention: bool = True
    same_bytes: bool = True
    rows: int = 16
    budget_s: float = 10.0


def autotune_cuda(
    model: LatentDiffusion,
    size: Size,
    options: CudaOptions,
    recorder: Callable[[torch.device], Recorder] = GraphRecorder,
) -> LatentDiffusion:
    """Return the same model, with the executors that measure fastest for images of `size`.

    Graphs for `size` are recorded before this returns, for other sizes at their first use.
    `recorder` is called for each network, because two of them may run at once and need separate
    memory.
    """
    unet = _unet(model, size, options)
    rows = tuple(n for n in ROWS if n <= max(2, options.rows))
    inputs = _examples(model, size, rows[-1])
    if options.autotune_attention:
        autotune_attention(unet, lambda: _run(unet, inputs))
    autotune_fused(unet, lambda: _run(unet, inputs))
    compiled = options.budget_s >= COMPILE_S and _compiled(unet, inputs, model.device)
    denoise = Graphed(
        denoiser(unet).module, recorder(model.device), same_bytes=options.same_bytes, rows=rows
    )
    sizes = denoise.warm_up(*inputs)
    eager = eager_executors(unet, model.autoencoder, same_bytes=options.same_bytes)
    decode = _decoder(model, size, recorder)

    def controlled(network: Network) -> Run:
        memory, same_bytes = recorder(model.device), options.same_bytes
        return Graphed(network.module, memory, same_bytes=same_bytes, rows=rows)

    name = ", ".join(
        ["cuda graphs of " + "/".join(map(str, sizes))]
        + ["compiled blocks"] * compiled
        + ["fp8"] * (unet is not model.unet)
    )
    log.info("executors: %s", name)
    update = autotune_slot_update(
        model.latent_shape(*size), max(1, options.rows // 2), model.device
    )
    executors = Executors(denoise, decode, eager.encoder, controlled, name, update)
    return replace(model, executors=executors)


def _unet(model: LatentDiffusion, size: Size, options: CudaOptions) -> UNet:
    """Return the model's UNet, or its FP8 copy if that generates nearly the same images."""
    if not options.fp8:
        return model.unet
    if not available(model.device):
        log.warning("fp8 is requested, but %s does not multiply it", model.device)
        return model.unet
    quantised = quantise_unet(model.unet, on_tensor_cores)
    executors = eager_executors(quantised, model.autoencoder)
    decibels = compare(model, replace(model, executors=executors), size)
    if decibels < REQUIRED_DB:
        log.warning("fp8 is not used: %.1f dB to half precision, not %.1f", decibels, REQUIRED_DB)
        return model.unet
    log.info("fp8: %.1f dB to half precision", decibels)
    return quantised


def _examples(model: LatentDiffusion, size: Size, most: int) -> tuple[torch.Tensor, ...]:
    """Return random inputs of the denoiser for images of `size`."""
    x, *rest = denoiser(model.unet).examples(min(MEASURED_ROWS, most))
    _, height, width = model.latent_shape(*size)
    x = torch.randn(*x.shape[:2], height, width, device=x.device, dtype=x.dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    return x, *rest


def _run(unet: UNet, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    out: torch.Tensor = denoiser(unet).module(*inputs)
    return out


def _compiled(unet: UNet, inputs: tuple[torch.Tensor, ...], device: torch.device) -> bool:
    """Return True if compiled blocks are faster; if so, they stay compiled."""

    def run() -> torch.Tensor:
        return _run(unet, inputs)

    with torch.inference_mode():
        before = time_call(run, device)
        compile_regions(unet)
        try:
            after = time_call(run, device)
        except (*UNSUITABLE, torch._dynamo.exc.TorchDynamoException) as error:
            log.warning("blocks are not compiled: %s", error)
            after = float("inf")
    log.info("blocks: %.2f ms as written, %.2f ms compiled", 1e3 * before, 1e3 * after)
    if after <= (1 - COMPILED_GAIN) * before:
        return True
    release_regions(unet)
    return False


def _decoder(
    model: LatentDiffusion, size: Size, recorder: Callable[[torch.device], Recorder]
) -> OneByOne:
    """Return the decoder in a graph of one image, with the kernels that are fastest for it."""
    autoencoder = model.autoencoder
    channels, height, width = model.latent_shape(*size)
    z = torch.randn(1, channels, height, width, device=model.device).to(autoencoder.dtype)
    z = z.contiguous(memory_format=torch.channels_last)
    autotune_attention(autoencoder, lambda: autoencoder.decode(z))
    autotune_fused(autoencoder, lambda: autoencoder.decode(z))
    network = decoder(autoencoder, width)
    graphed = Graphed(network.module, recorder(model.device), same_bytes=False, rows=(1,))
    graphed.warm_up(z)
    return OneByOne(graphed)
