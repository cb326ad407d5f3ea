"""Test that a request gives the same file under any load, and the cost of that guarantee.

    python -m bench same_bytes [--requests 200] [--crowds 3]

Requests of every kind (task, sampler, schedule, steps, guidance, prompts of one and of two rows,
sizes, several images) are run alone, one after another, and then together several times, each time
in another random order and with another number of slots. Files are compared byte for byte. The cost
is the loss of throughput compared with an engine without the guarantee.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections.abc import Sequence

from bench.common.drive import PROMPTS, Job, engine_for, generate, mask_image, photo, ready_model
from bench.common.report import arguments, publish, table
from bench.common.workloads import BUNDLED_EMOJI, WORKLOADS, Workload
from models.loading.loader import default_device
from models.pipeline import LatentDiffusion
from models.samplers import SAMPLERS, SCHEDULES
from protocol.request.object_keys import OutputFormat, input_key
from protocol.request.request import GenerationRequest, Task
from worker.output.image_files import encode
from worker.settings import WorkerSettings

SLOTS = (8, 5, 3)  # of the runs under load, in turn
ROUNDS = 3  # of timing, with and without the guarantee
LONG = ", ".join(PROMPTS * 6)  # more than one row of tokens


def requests(workload: Workload, count: int) -> list[Job]:
    """Return random jobs of all kinds, always the same."""
    rng = random.Random(0)
    return [_random_job(workload, rng) for _ in range(count)]


def files(model: LatentDiffusion, jobs: Sequence[Job], slots: int) -> list[str]:
    """Return the digest of the files of each job, in order, run with `slots` images at once."""
    engine = engine_for(jobs[0].request.model, model, slots)
    run = generate(engine, jobs)
    return [
        hashlib.sha256(
            b"".join(
                encode(pixels, job.request, job.request.image_seed(index))
                for index, pixels in sorted(outcome.pixels.items())
            )
        ).hexdigest()
        for job, outcome in zip(jobs, run.outcomes, strict=True)
    ]


def alone(model: LatentDiffusion, jobs: Sequence[Job]) -> list[str]:
    """Return the digest of the files of each job, run alone."""
    return [files(model, [job], job.request.n)[0] for job in jobs]


def cost(
    model: LatentDiffusion,
    model_without: LatentDiffusion,
    jobs: Sequence[Job],
    slots: int,
    rounds: int = ROUNDS,
) -> tuple[float, float]:
    """Return the images per second with and without the guarantee, best of alternating rounds."""
    with_guarantee, without = 0.0, 0.0
    for _ in range(rounds):
        engine = engine_for(jobs[0].request.model, model, slots)
        with_guarantee = max(with_guarantee, generate(engine, jobs).images_per_s)
        engine = engine_for(jobs[0].request.model, model_without, slots, same_bytes=False)
        without = max(without, generate(engine, jobs).images_per_s)
    return with_guarantee, without


def _random_job(workload: Workload, rng: random.Random) -> Job:
    task = rng.choice([Task.TXT2IMG, Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT])
    side = workload.side
    image = photo(side) if task.takes_image else None
    mask = mask_image(side) if task.takes_mask else None
    width, height = (side, side) if image else rng.choice([(side, side), (side // 2, side)])
    request = GenerationRequest(
        task=task,
        model=workload.name,
        prompt=rng.choice([*PROMPTS, LONG]),
        negative_prompt=rng.choice(["", "", "grey"]),
        width=width,
        height=height,
        steps=rng.randint(3, 12),
        sampler=rng.choice(list(SAMPLERS)),
        schedule=rng.choice(list(SCHEDULES)),
        guidance_scale=rng.choice([1.0, 2.5, 4.0, 9.0]),
        guidance_rescale=rng.choice([0.0, 0.0, 0.7]),
        seed=rng.randrange(2**31),
        n=rng.choice([1, 1, 1, 2]),
        strength=rng.choice([0.4, 0.7, 1.0]) if image else None,
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
    parser.add_argument("--crowds", type=int, default=3, help="runs under load")
    parser.add_argument("--executor", choices=("auto", "eager", "openvino"), default="auto")
    return parser


def main() -> None:
    given = options().parse_args()
    workload = WORKLOADS[given.workload]
    count, rounds = (6, 1) if given.smoke else (given.requests, ROUNDS)
    settings = WorkerSettings(worker_executor=given.executor)
    model = ready_model(workload, settings=settings)
    jobs = requests(workload, count)
    expected = alone(model, jobs)
    rows = []
    rng = random.Random(1)
    for crowd in range(given.crowds):
        order = rng.sample(range(count), count)
        slots = SLOTS[crowd % len(SLOTS)]
        digests = files(model, [jobs[i] for i in order], slots)
        differing = sum(expected[i] != found for i, found in zip(order, digests, strict=True))
        rows.append({"crowd": crowd + 1, "slots": slots, "files": count, "differing": differing})
    settings = settings.model_copy(update={"worker_same_bytes": False})
    model_without = ready_model(workload, settings=settings)
    rate, rate_without = cost(model, model_without, jobs, SLOTS[0], rounds)
    publish(
        f"same_bytes-{workload.name}",
        given,
        str(default_device()),
        [
            table("files that differ from those alone", rows[0], (r.values() for r in rows)),
            table("cost", ("engine", "images/s"), (
                ("same bytes", rate), ("any bytes", rate_without),
            )),
        ],
        {
            "executors": model.executors.name, "crowds": rows, "images_per_s": rate,
            "images_per_s_without": rate_without, "cost": 1 - rate / rate_without,
        },
    )  # fmt: skip
    if any(row["differing"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
