"""Time of the parts of an image: each network by rows and executor, the text, the file.

    python -m bench components [--workload bundled128|sd15|sdxl] [--compile]

Milliseconds are the median of several calls. The share is of the fastest matrix product, measured
in the precision of the executor (`bench.engine.flops`). Padding rows do not count as work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.common.drive import photo, ready_model, txt2img_job
from bench.common.report import arguments, publish, table
from bench.common.workloads import BUNDLED_EMOJI, SMALL, WORKLOADS, Workload
from bench.engine.flops import (
    TOKENS,
    decode_flops,
    encode_flops,
    peak_flops,
    synchronize,
    text_flops,
    unet_flops,
)
from darkroom.development_certificate import create_certificate
from models.conditioners.clip import text_stages
from models.executors import base, compiled, openvino
from models.executors.base import Network, Run
from models.executors.eager import eager_executors
from models.loading.loader import default_device
from models.pipeline import LatentDiffusion
from protocol.request.object_keys import OutputFormat
from protocol.request.request import GenerationRequest
from worker.engine.pixels import image_tensor
from worker.interfaces import Pixels
from worker.output.content_credentials import ContentCredentials
from worker.output.image_files import encode
from worker.output.signing_identity import SigningIdentity

ROWS = {"denoiser": (1, 2, 4, 8, 16), "decoder": (1, 2, 4), "encoder": (1, 2, 4)}
# Large networks on a CPU take seconds a row.
LARGE_ROWS = {"denoiser": (2,), "decoder": (1,), "encoder": (1,)}
REPEATS = 7
SMOKE_ROWS = 2  # row counts of each network in a smoke run


@dataclass(frozen=True)
class Measured:
    """A component: milliseconds per call and per row, and its arithmetic rate."""

    component: str
    executor: str
    rows: int
    ms: float
    ms_per_row: float
    tflops: float | None = None
    share_of_limit: float | None = None


def executors(
    model: LatentDiffusion, network: Network, with_compile: bool, cache: Path
) -> Iterator[tuple[str, Run]]:
    """Yield every available executor of `network` with its name and precision.

    Both precisions of OpenVINO start from the same graph, which is stored in the folder `cache`.
    """
    if model.device.type != "cpu":
        chosen = getattr(model.executors, network.name)
        yield f"{model.executors.name} {_short(model.dtype)}", chosen
        return
    eager = getattr(eager_executors(model.unet, model.autoencoder), network.name)
    yield "eager fp32", eager
    if openvino.available():
        yield "openvino fp32", openvino.OpenVino(network, torch.float32, cache)
    if openvino.available() and openvino.has_bfloat16():
        yield "openvino bf16", openvino.OpenVino(network, torch.bfloat16, cache)
    if with_compile and compiled.available():
        yield "compile fp32", compiled.Compiled(network, torch.float32, eager)


def measure(
    model: LatentDiffusion,
    workload: Workload,
    repeats: int,
    with_compile: bool,
    *,
    smoke: bool = False,
) -> Iterator[Measured]:
    """Measure all components, by executor and rows; a smoke run uses few row counts."""
    with TemporaryDirectory() as cache:
        yield from _networks(model, workload, repeats, with_compile, Path(cache), smoke=smoke)
    yield from _others(model, workload, repeats)


def _networks(
    model: LatentDiffusion,
    workload: Workload,
    repeats: int,
    with_compile: bool,
    cache: Path,
    *,
    smoke: bool,
) -> Iterator[Measured]:
    peaks = {
        name: peak_flops(model.device, dtype, smoke=smoke)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    peaks[_short(model.dtype)] = peak_flops(model.device, model.dtype, smoke=smoke)
    small = workload in SMALL or model.device.type != "cpu"
    counts = ROWS if small else LARGE_ROWS
    _, latent_side, _ = model.latent_shape(workload.side, workload.side)
    flops = {
        "denoiser": unet_flops(model.unet.config, latent_side),
        "decoder": decode_flops(model.autoencoder.config, latent_side),
        "encoder": encode_flops(model.autoencoder.config, workload.side),
    }
    for network in (
        base.denoiser(model.unet),
        base.decoder(model.autoencoder, latent_side),
        base.encoder(model.autoencoder, workload.side),
    ):
        for name, run in executors(model, network, with_compile, cache):
            for rows in counts[network.name][:SMOKE_ROWS] if smoke else counts[network.name]:
                seconds = median(partial(run, *network.examples(rows)), model.device, repeats)
                rate = rows * flops[network.name] / seconds
                share = rate / peaks[name.rpartition(" ")[2]]
                yield _measured(network.name, name, rows, seconds, rate, share)


def _others(model: LatentDiffusion, workload: Workload, repeats: int) -> Iterator[Measured]:
    """Measure the text encoders, and the image file and its signature."""
    tokens = torch.zeros(1, TOKENS, dtype=torch.long, device=model.device)
    encoders = [stage.encoder for stage in text_stages(model.conditioner)]
    seconds = median(lambda: [read(tokens) for read in encoders], model.device, repeats)
    rate = sum(text_flops(encoder.config) for encoder in encoders) / seconds
    yield _measured("text", f"eager {_short(model.dtype)}", 1, seconds, rate)
    request = txt2img_job(workload, 0).request
    pixels = ((image_tensor(photo(workload.side)) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    seconds = median(lambda: encode(pixels, request, 0), model.device, repeats)
    yield _measured("PNG file", "one thread", 1, seconds)
    yield from _signing(request, pixels, model.device, repeats)


def _signing(
    request: GenerationRequest, pixels: Pixels, device: torch.device, repeats: int
) -> Iterator[Measured]:
    """Measure content credentials of files of each format."""
    now = datetime.now(UTC)
    identity = SigningIdentity(*create_certificate(now), "es256", now, is_development=True)
    credentials = ContentCredentials(identity)
    for kind in OutputFormat:
        one = request.model_copy(update={"output_format": kind})
        file = encode(pixels, one, 0)
        seconds = median(partial(credentials.sign_image, file, one), device, repeats)
        yield _measured(f"signature of {kind.name}", "one thread", 1, seconds)


@torch.inference_mode()
def median(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median seconds of a call, after one call as warm-up."""
    call()
    taken = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        call()
        synchronize(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _measured(
    component: str,
    executor: str,
    rows: int,
    seconds: float,
    rate: float | None = None,
    share: float | None = None,
) -> Measured:
    ms = 1000 * seconds
    tflops = None if rate is None else rate / 1e12
    return Measured(component, executor, rows, ms, ms / rows, tflops, share)


def _short(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]


def options() -> argparse.ArgumentParser:
    parser = arguments("components", __doc__)
    parser.add_argument("--workload", choices=WORKLOADS, default=BUNDLED_EMOJI.name)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument(
        "--compile", action="store_true", help="also measure torch.compile; takes minutes"
    )
    return parser


def main() -> None:
    given = options().parse_args()
    workload = WORKLOADS[given.workload]
    model = ready_model(workload)
    repeats = 1 if given.smoke else given.repeats
    found = measure(model, workload, repeats, given.compile, smoke=given.smoke)
    measured = [asdict(one) for one in found]
    publish(
        f"components-{workload.name}",
        given,
        str(default_device()),
        [
            table(
                f"{workload.name} {workload.side}²",
                ("component", "executor", "rows", "ms", "ms a row", "TFLOP/s", "of the limit"),
                (row.values() for row in measured),
            )
        ],
        {
            "workload": workload.name, "side": workload.side, "repeats": repeats,
            "threads": torch.get_num_threads(), "chosen": model.executors.name,
            "components": measured,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
