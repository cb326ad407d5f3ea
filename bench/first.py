"""Pictures per second through the whole service beside diffusers, same weights, same run.

    python -m bench.first [--model FOLDER] [--steps 20] [--images 16] [--smoke]

Ours is measured from outside: real HTTP, real queue, real store, `concurrency` clients that each
ask for one picture at a time. diffusers is called in process, with all `concurrency` prompts in
one batch, which is the best it can do. What the service adds to a request is the client's wall
time less the seconds that the worker spent on the model, as it reports them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import torch
from rich.console import Console
from rich.table import Table

from darkroom.display import TerminalDisplay
from darkroom.house import open_house
from models.loading import BUNDLED
from protocol.settings import Settings

PROMPTS = ("red heart", "pizza", "crescent moon", "cat face", "sunflower", "rocket", "tree", "fish")
GUIDANCE = 4.0
SAMPLER = {"sampler": "ddim", "schedule": "leading"}  # what both sides have under one name
CONCURRENCY = (1, 8)
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Rate:
    """One row of the result; overhead is per request, for the service only."""

    system: str
    concurrency: int
    images: int
    images_per_s: float
    overhead_p50_ms: float | None = None
    overhead_p95_ms: float | None = None


async def ours(model: Path, steps: int, images: int, console: Console) -> list[Rate]:
    """Start the house in a folder of its own and ask it as `concurrency` clients would."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["DARKROOM_MODEL"] = str(model)
        display = TerminalDisplay(console)
        try:
            async with (
                open_house(Path(home), Settings(port=0), display) as house,
                httpx.AsyncClient(base_url=house.url, timeout=TIMEOUT_S, trust_env=False) as client,
            ):
                await _ask(client, 0, steps)  # the first request finds everything warm
                return [await _rate(client, c, steps, images) for c in CONCURRENCY]
        finally:
            display.close()


async def _rate(client: httpx.AsyncClient, concurrency: int, steps: int, images: int) -> Rate:
    numbers = iter(range(images))
    overheads: list[float] = []

    async def one_client() -> None:
        for number in numbers:
            overheads.append(await _ask(client, number, steps))

    started = time.perf_counter()
    await asyncio.gather(*(one_client() for _ in range(concurrency)))
    seconds = time.perf_counter() - started
    rate = Rate("darkroom (HTTP)", concurrency, images, images / seconds)
    if concurrency > 1:
        # In company, a request also waits for its neighbours' part of the model's time, which is
        # no overhead of the service: only the lone client shows that.
        return rate
    overheads.sort()
    return replace(
        rate,
        overhead_p50_ms=1000 * statistics.median(overheads),
        overhead_p95_ms=1000 * overheads[int(0.95 * (len(overheads) - 1))],
    )


async def _ask(client: httpx.AsyncClient, number: int, steps: int) -> float:
    """Ask for one picture; the seconds that were not the model's."""
    body = {
        "prompt": PROMPTS[number % len(PROMPTS)], "seed": number, "steps": steps,
        "guidance_scale": GUIDANCE, **SAMPLER,
    }  # fmt: skip
    started = time.perf_counter()
    answer = await client.post("/v1/txt2img", json=body)
    seconds = time.perf_counter() - started
    answer.raise_for_status()
    timings = answer.json()["timings"]
    return seconds - sum(timings[phase] for phase in ("encode", "denoise", "decode"))


def theirs(model: Path, steps: int, images: int) -> list[Rate]:
    """diffusers with the same files, sampler and steps."""
    import diffusers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    return [_their_rate(pipe, c, steps, images) for c in CONCURRENCY]


def _their_rate(pipe: Any, concurrency: int, steps: int, images: int) -> Rate:
    def draw(first: int) -> None:
        numbers = range(first, first + concurrency)
        pipe(
            [PROMPTS[i % len(PROMPTS)] for i in numbers],
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(i) for i in numbers],
        )

    draw(0)
    batches = max(1, images // concurrency)
    started = time.perf_counter()
    for batch in range(batches):
        draw(batch * concurrency)
    seconds = time.perf_counter() - started
    return Rate(
        "diffusers (in process)",
        concurrency,
        batches * concurrency,
        batches * concurrency / seconds,
    )


def show(rates: list[Rate], console: Console) -> None:
    table = Table("system", "concurrent", "images", "images/s", "added per request p50 / p95")
    for rate in rates:
        added = (
            "–"
            if rate.overhead_p50_ms is None
            else f"{rate.overhead_p50_ms:.1f} / {rate.overhead_p95_ms:.1f} ms"
        )
        table.add_row(
            rate.system, str(rate.concurrency), str(rate.images), f"{rate.images_per_s:.2f}", added
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.first", description=__doc__)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--smoke", action="store_true", help="2 steps, 8 pictures: does it run?")
    arguments = parser.parse_args()
    steps, images = (2, 8) if arguments.smoke else (arguments.steps, arguments.images)
    console = Console(stderr=True)
    rates = asyncio.run(ours(arguments.model.resolve(), steps, images, console))
    rates += theirs(arguments.model.resolve(), steps, images)
    show(rates, console)
    print(
        json.dumps(
            {
                "benchmark": "first", "model": arguments.model.name, "steps": steps,
                "guidance_scale": GUIDANCE, **SAMPLER, "device": "cpu",
                "threads": torch.get_num_threads(), "torch": torch.__version__,
                "rates": [asdict(rate) for rate in rates],
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
