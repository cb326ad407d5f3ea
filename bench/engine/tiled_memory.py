"""Peak memory of images up to 8192 pixels wide and high, above the loaded networks.

python -m bench tiled_memory [--side 8192] [--work upscaler] [--smoke]
python -m bench tiled_memory --work tile --model sd15 [--slots 4]

Two kinds of work, each from a PNG of a quarter of the side to a PNG: image to image in tiles, one
step, and an upscaler. By default the networks are a tiny one with Stable Diffusion's eight pixels
to a latent, and an upscaler as wide as realesr-general-x4v3. So the figures of image to image are
those of the image: its pixels, latents and files. What larger networks take for one run comes on
top; it does not depend on the side of the image. `--work tile` measures it for a whole diffusion
model, from its loading on: as many guided tiles as there are slots in one run, and the first stage
in its tiles (upscalers: --work upscaler --upscaler RRDBNet --side 1024). Everything runs on the
CPU, each image in a process of its own, whose resident memory the system keeps count of.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from bench.common.drive import Outcome
from bench.common.report import arguments, publish, table
from bench.common.workloads import SD15, TINY_SD, UPSCALERS, folder, upscaler_folder
from models.loading.loader import load_model
from models.loading.upscalers import Upscalers
from protocol.request.object_keys import OutputFormat, input_key
from protocol.request.request import GenerationRequest, Task, Tiles, Upscaling
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob
from worker.model_manager.tiling import with_tiles
from worker.output.image_files import encode

SIDES = (2048, 4096, 8192)
SCALE = 4  # from the image of the request
MIB = 2**20
SLOTS = 4
OVERLAP = 4  # a tile shares the fourth part
CPU = torch.device("cpu")
IMG2IMG, UPSCALER, TILE = WORK = ("img2img", "upscaler", "tile")
MODELS = {workload.name: workload for workload in (TINY_SD, SD15)}

Figures = dict[str, Any]


class Results(Protocol):
    """A queue between processes or threads."""

    def put(self, figures: Figures, /) -> None: ...


@dataclass(frozen=True)
class Setting:
    """The networks, and the sides of their tiles in pixels."""

    model: str = TINY_SD.name
    upscaler: str = "SRVGGNetCompact"
    tile: int = 512
    vae_tile: int = 256
    slots: int = SLOTS  # as many tiles in a run


def main() -> None:
    default = Setting()
    parser = arguments("tiled_memory", __doc__)
    parser.add_argument("--side", type=int, help=f"of the result; default: {SIDES}")
    parser.add_argument("--work", choices=WORK, help="default: img2img and upscaler")
    parser.add_argument("--model", choices=MODELS, default=default.model)
    parser.add_argument("--upscaler", choices=UPSCALERS, default=default.upscaler)
    parser.add_argument("--tile", type=int, default=default.tile)
    parser.add_argument("--vae-tile", type=int, default=default.vae_tile)
    parser.add_argument("--slots", type=int, default=default.slots)
    given = parser.parse_args()
    if given.smoke:
        given.side, given.tile, given.vae_tile = 512, 128, 128
    setting = Setting(given.model, given.upscaler, given.tile, given.vae_tile, given.slots)
    sides = SIDES if given.side is None else (given.side,)
    work = (IMG2IMG, UPSCALER) if given.work is None else (given.work,)
    if given.work == TILE:
        sides = (side_of(setting),)
    images = [in_a_child(setting, one, side) for one in work for side in sides]
    columns = ("work", "side", "tiles", "seconds", "peak MiB above the networks")
    rows = [[row["work"], row["side"], row["tiles"], row["seconds"], row["mib"]] for row in images]
    title = f"{setting.model} in tiles of {setting.tile} pixels, {setting.upscaler} in its own"
    figures = {**vars(setting), "images": images}
    publish("tiled_memory", given, "cpu", [table(title, columns, rows)], figures)


def side_of(setting: Setting) -> int:
    """Return the side of a square of at least as many tiles as there are slots."""
    across = ceil(sqrt(setting.slots))
    return setting.tile + (across - 1) * (setting.tile - setting.tile // OVERLAP)


def in_a_child(setting: Setting, work: str, side: int) -> Figures:
    """Return the figures of one image. Raises RuntimeError if its process fails."""
    context = get_context("spawn")
    results = context.Queue()
    child = context.Process(target=measure, args=(setting, work, side, results))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise RuntimeError(f"the process for {side} pixels ended with {child.exitcode}")
    return results.get()


def measure(setting: Setting, work: str, side: int, results: Results) -> None:
    """Put the figures of one image into `results`."""
    model = load_model(str(folder(MODELS[setting.model])), CPU)
    loaded = {"model": unmeasured(with_tiles(model, setting.vae_tile), setting.slots)}
    upscalers = Upscalers(upscaler_folder(), CPU, torch.float32)
    engine = DiffusionEngine(loaded, setting.slots, upscalers=upscalers)
    if work != TILE:
        generate(engine, setting, work, setting.tile)  # allocates what every image uses
    before, started = resident_bytes()["VmRSS"], time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to the memory of now
    tiles = generate(engine, setting, work, side)
    results.put({
        "work": work,
        "side": side,
        "tiles": tiles,
        "seconds": time.perf_counter() - started,
        "mib": (resident_bytes()["VmHWM"] - before) / MIB,
    })  # fmt: skip


def generate(engine: DiffusionEngine, setting: Setting, work: str, side: int) -> int:
    """Generate one image and encode its file; return the number of its tiles."""
    pixels = np.random.default_rng(0).integers(0, 256, (side // SCALE, side // SCALE, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    request = request_of(setting, work, side, file.getvalue())
    outcome = Outcome(time.perf_counter())
    engine.prepare(request)
    engine.admit(AdmittedJob("0" * 32, request, file.getvalue(), None, outcome))
    steps = 0
    while not engine.idle:
        engine.step()
        steps += 1
    assert encode(outcome.pixels.pop(0), request, request.seed)
    return request.tiles.count(side, side) if request.tiles else steps


def request_of(setting: Setting, work: str, side: int, image: bytes) -> GenerationRequest:
    """Return the request for one image of `side` pixels from the PNG `image`."""
    workload = MODELS[setting.model]
    tiles = upscaling = None
    if work != UPSCALER:
        tiles = Tiles(size=setting.tile, overlap=setting.tile // OVERLAP, upscaler="lanczos")
    else:
        upscaling = Upscaling(upscaler=setting.upscaler, blend=0.5)
    return GenerationRequest(
        task=Task.UPSCALE if upscaling else Task.IMG2IMG,
        model="model",
        prompt="",
        negative_prompt="",
        width=side,
        height=side,
        steps=1,
        sampler="euler",
        schedule=workload.schedule,
        guidance_scale=workload.guidance_scale,
        seed=0,
        n=1,
        strength=1.0 if tiles else None,
        image_key=input_key(image),
        tiles=tiles,
        upscaling=upscaling,
        output_format=OutputFormat.PNG,
        quality=90,
    )


def resident_bytes() -> Mapping[str, int]:
    """Return the resident memory of this process (VmRSS) and its peak (VmHWM) in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = (line.split() for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {name.rstrip(":"): 1024 * int(kib) for name, kib, _ in fields}


if __name__ == "__main__":
    main()
