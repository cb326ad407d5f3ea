"""Images per second of the engine in process, compared with the limit of the device.

    python -m bench offline [--workload bundled128|sd15|sdxl] [--slots 8] [--images 64]

The jobs are a closed set of more images than slots, so that the batch stays full. TFLOP/s counts
the arithmetic of the images only (padding is not work); the limit is the fastest matrix product,
measured in the same run. On a CPU the large models run two steps, because complete images take
minutes.
"""

from __future__ import annotations

import argparse
import time

import torch

from bench.common.drive import (
    engine_for,
    generate,
    mixed_job,
    precision,
    ready_model,
    txt2img_job,
)
from bench.common.report import arguments, publish, table
from bench.common.workloads import BUNDLED_EMOJI, SMALL, WORKLOADS, Workload
from bench.engine.flops import image_flops, peak_flops
from models.loading.loader import default_device
from models.pipeline import LatentDiffusion


def measure(
    model: LatentDiffusion, workload: Workload, slots: int, images: int, *, smoke: bool = False
) -> list[dict[str, object]]:
    """Measure images alike and images mixed; the arithmetic of a mix is not counted."""
    engine = engine_for(workload.name, model, slots)
    generate(engine, [txt2img_job(workload.smaller(), seed) for seed in range(slots)])  # warm-up
    peak = peak_flops(model.device, precision(model), smoke=smoke)
    flops = image_flops(model, workload)
    alike = generate(engine, [txt2img_job(workload, seed) for seed in range(images)])
    mixed = generate(engine, [mixed_job(workload, seed) for seed in range(images)])
    rate = flops * alike.images_per_s
    return [
        {
            "requests": "alike", "images": images, "images_per_s": alike.images_per_s,
            "mean_rows": alike.mean_rows, "tflops": rate / 1e12, "peak_tflops": peak / 1e12,
            "share_of_limit": rate / peak,
        },
        {
            "requests": "mixed", "images": images, "images_per_s": mixed.images_per_s,
            "mean_rows": mixed.mean_rows,
        },
    ]  # fmt: skip


def options() -> argparse.ArgumentParser:
    parser = arguments("offline", __doc__)
    parser.add_argument("--workload", choices=WORKLOADS, default=BUNDLED_EMOJI.name)
    parser.add_argument("--slots", type=int, default=8, help="images in a batch")
    parser.add_argument("--images", type=int, default=64)
    return parser


def main() -> None:
    given = options().parse_args()
    device = default_device()
    workload, images = WORKLOADS[given.workload], given.images
    if given.smoke or (device.type == "cpu" and workload not in SMALL):
        workload, images = workload.smaller(), given.slots + 1
    started = time.perf_counter()
    model = ready_model(workload)
    ready_s = time.perf_counter() - started
    rows = measure(model, workload, given.slots, images, smoke=given.smoke)
    columns = (
        "requests",
        "images",
        "images_per_s",
        "mean_rows",
        "tflops",
        "peak_tflops",
        "share_of_limit",
    )
    title = f"{workload.name} {workload.side}², {workload.steps} steps, {given.slots} slots"
    publish(
        f"offline-{workload.name}",
        given,
        str(device),
        [table(title, columns, ([row.get(column) for column in columns] for row in rows))],
        {
            "workload": workload.name, "side": workload.side, "steps": workload.steps,
            "guidance_scale": workload.guidance_scale, "slots": given.slots,
            "executor": model.executors.name, "dtype": str(precision(model)),
            "threads": torch.get_num_threads(), "ready_s": ready_s,
            "results": rows,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
