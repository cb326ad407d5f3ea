"""Whether a request gives the same file whatever the load, and what that costs.

    python -m bench same_bytes [--requests 200] [--crowds 3]

Requests of every kind (task, sampler, schedule, steps, guidance, prompts of one and of two rows,
sizes, several pictures) are drawn alone, one after another, and then in crowds, each time in
another random order and with another number of slots. Files are compared byte for byte. The cost
is the share of throughput lost to an engine that does not care.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections.abc import Sequence

from bench.common.drive import PROMPTS, Job, draw, engine_for, photo, ready_model, stencil
from bench.common.report import arguments, publish, table
from bench.common.workloads import BUNDLED_EMOJI, WORKLOADS, Workload
from models.loading.loader import default_device
from models.pipeline import LatentDiffusion
from models.samplers import SAMPLERS, SCHEDULES
from protocol.request.object_keys import OutputFormat, input_key
from protocol.request.request import GenerationRequest, Task
from worker.output.image_files import encode
from worker.settings import WorkerSettings

SLOTS = (8, 5, 3)  # of the crowds, in turn
ROUNDS = 3  # of timing, with and without
LONG = ", ".join(PROMPTS * 6)  # more than one row of tokens


def requests(workload: Workload, count: int) -> list[Job]:
    """The same mix every time."""
    dice = random.Random(0)
    return [_any(workload, dice) for _ in range(count)]


def files(model: LatentDiffusion, jobs: Sequence[Job], slots: int) -> list[str]:
    """Digests of the files of each job, in order, drawn with `slots` pictures at once."""
    engine = engine_for(jobs[0].request.model, model, slots)
    drawn = draw(engine, jobs)
    return [
        hashlib.sha256(
            b"".join(
                encode(pixels, job.request, job.request.image_seed(index))
                for index, pixels in sorted(outcome.pixels.items())
            )
        ).hexdigest()
        for job, outcome in zip(jobs, drawn.outcomes, strict=True)
    ]


def alone(model: LatentDiffusion, jobs: Sequence[Job]) -> list[str]:
    """Digests of the files of each job, drawn with nobody beside it."""
    return [files(model, [job], job.request.n)[0] for job in jobs]


def cost(
    model: LatentDiffusion,
    careless: LatentDiffusion,
    jobs: Sequence[Job],
    slots: int,
    rounds: int = ROUNDS,
) -> tuple[float, float]:
    """Images per second with and without the promise: the best of a few rounds taken in turn."""
    with_promise, without = 0.0, 0.0
    for _ in range(rounds):
        engine = engine_for(jobs[0].request.model, model, slots)
        with_promise = max(with_promise, draw(engine, jobs).images_per_s)
        engine = engine_for(jobs[0].request.model, careless, slots, same_bytes=False)
        without = max(without, draw(engine, jobs).images_per_s)
    return with_promise, without


def _any(workload: Workload, dice: random.Random) -> Job:
    task = dice.choice([Task.TXT2IMG, Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT])
    side = workload.side
    image = photo(side) if task.takes_image else None
    mask = stencil(side) if task.takes_mask else None
    width, height = (side, side) if image else dice.choice([(side, side), (side // 2, side)])
    request = GenerationRequest(
        task=task,
        model=workload.name,
        prompt=dice.choice([*PROMPTS, LONG]),
        negative_prompt=dice.choice(["", "", "grey"]),
        width=width,
        height=height,
        steps=dice.randint(3, 12),
        sampler=dice.choice(list(SAMPLERS)),
        schedule=dice.choice(list(SCHEDULES)),
        guidance_scale=dice.choice([1.0, 2.5, 4.0, 9.0]),
        guidance_rescale=dice.choice([0.0, 0.0, 0.7]),
        seed=dice.randrange(2**31),
        n=dice.choice([1, 1, 1, 2]),
        strength=dice.choice([0.4, 0.7, 1.0]) if image else None,
        image_key=input_key(image) if image else None,
        mask_key=input_key(mask) if mask else None,
        output_format=OutputFormat.PNG,
        quality=90,
    )
    return Job(request, image, mask)


def options() -> argparse.ArgumentParser:
    parser = arguments("same_bytes", __doc__)
    parser.add_argument("--workload", choices=WORKLOADS, default=BUNDLED_EMOJI.name)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--crowds", type=int, default=3)
    parser.add_argument("--executor", choices=("auto", "eager", "openvino"), default="auto")
    return parser


def main() -> None:
    given = options().parse_args()
    workload = WORKLOADS[given.workload]
    count, rounds = (6, 1) if given.smoke else (given.requests, ROUNDS)
    asked = WorkerSettings(worker_executor=given.executor)
    model = ready_model(workload, settings=asked)
    jobs = requests(workload, count)
    expected = alone(model, jobs)
    rows = []
    dice = random.Random(1)
    for crowd in range(given.crowds):
        order = dice.sample(range(count), count)
        slots = SLOTS[crowd % len(SLOTS)]
        drawn = files(model, [jobs[i] for i in order], slots)
        differing = sum(expected[i] != found for i, found in zip(order, drawn, strict=True))
        rows.append({"crowd": crowd + 1, "slots": slots, "files": count, "differing": differing})
    careless = ready_model(workload, settings=asked.model_copy(update={"worker_same_bytes": False}))
    kept, careless_rate = cost(model, careless, jobs, SLOTS[0], rounds)
    publish(
        "same_bytes" if workload.name == "bundled" else f"same_bytes-{workload.name}",
        given,
        str(default_device()),
        [
            table("files that differ from those drawn alone", rows[0], (r.values() for r in rows)),
            table("what it costs", ("engine", "images/s"), (
                ("same bytes", kept), ("whatever is fastest", careless_rate),
            )),
        ],
        {
            "executors": model.executors.name, "crowds": rows, "images_per_s": kept,
            "images_per_s_without": careless_rate, "cost": 1 - kept / careless_rate,
        },
    )  # fmt: skip
    if any(row["differing"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
