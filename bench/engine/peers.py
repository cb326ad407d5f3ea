"""Darkroom compared with diffusers, with the same weights, in the same run, in alternating rounds.

    python -m bench peers [--workload bundled128|sd15|sdxl] [--rounds 5] [--no-compile]
                          [--only NAME …]

There are three settings: one image at a time; eight alike at once, which diffusers runs as one
batch; and eight at once with different samplers, step counts and tasks, which diffusers can only
run one after another. Darkroom uses its engine, as in the worker. It is compared with plain
diffusers, with diffusers and a compiled network (frozen on a CPU) and, on a CPU, with diffusers and
OpenVINO. If the CPU has bfloat16, plain diffusers and OpenVINO are also run in that precision, as
Darkroom's executor may be.

On a CPU a complete image of the large models takes minutes, so one guided step is measured.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.common.drive import (
    MIX,
    Job,
    engine_for,
    generate,
    mixed_job,
    model_folder,
    precision,
    ready_model,
    txt2img_job,
)
from bench.common.report import arguments, publish, table
from bench.common.workloads import BUNDLED_EMOJI, SMALL, WORKLOADS, Workload
from bench.engine.flops import synchronize
from models.denoising.sampling_params import SamplingParams
from models.executors.openvino import has_bfloat16
from models.loading.loader import default_device
from models.pipeline import LatentDiffusion
from protocol.request.request import GenerationRequest, Task

OURS = "darkroom"
BATCH = len(MIX)
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}

Generate = Callable[[], object]
Images = list[np.ndarray]


class Diffusers:
    """diffusers' pipelines with shared components, one for each task."""

    def __init__(self, pipeline: Any) -> None:
        import diffusers

        pipeline.set_progress_bar_config(disable=True)
        self._schedulers = {
            sampler: getattr(diffusers, name).from_config(
                pipeline.scheduler.config, timestep_spacing="trailing", clip_sample=False
            )
            for sampler, name in SCHEDULERS.items()
        }
        self.unet = pipeline.unet
        self._pipelines = {
            Task.TXT2IMG: pipeline,
            Task.IMG2IMG: diffusers.AutoPipelineForImage2Image.from_pipe(pipeline),
            Task.INPAINT: diffusers.AutoPipelineForInpainting.from_pipe(pipeline),
        }
        for task_pipeline in self._pipelines.values():
            task_pipeline.set_progress_bar_config(disable=True)

    def with_network(self, unet: Any) -> Diffusers:
        """Return the same pipelines with another UNet."""
        components = {**self._pipelines[Task.TXT2IMG].components, "unet": unet}
        return Diffusers(type(self._pipelines[Task.TXT2IMG])(**components))

    def one(self, job: Job) -> Images:
        """Run one request of any task and sampler."""
        request = job.request
        options: dict[str, Any] = {}
        if request.task.takes_image:
            options |= {"image": _image(job.image), "strength": request.strength}
        else:
            options |= {"width": request.width, "height": request.height}
        if request.task.takes_mask:
            options["mask_image"] = _image(job.mask)
        return self._run(request, [request], **options)

    def batch(self, requests: list[GenerationRequest]) -> Images:
        """Run requests that differ in prompt and seed only, as one batch."""
        return self._run(requests[0], requests)

    def _run(
        self, settings: GenerationRequest, requests: list[GenerationRequest], **options: Any
    ) -> Images:
        pipeline = self._pipelines[settings.task]
        pipeline.scheduler = self._schedulers[settings.sampler]
        output = pipeline(
            [request.prompt for request in requests],
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            output_type="np",
            **options,
        )
        return [np.asarray(255 * image).round().astype(np.uint8) for image in output.images]


def load_diffusers(workload: Workload, device: torch.device, dtype: torch.dtype) -> Diffusers:
    """Load the workload's files with diffusers."""
    import diffusers
    import transformers

    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            model_folder(workload), torch_dtype=dtype
        )
    return Diffusers(pipeline.to(device))


def compiled(unet: Any, device: torch.device) -> Any:
    """Return the network under torch.compile; on a CPU with its weights frozen into the code."""
    import torch._inductor.config as inductor

    if device.type == "cpu":
        inductor.freezing = True
        return torch.compile(unet)
    return torch.compile(unet, mode="max-autotune", fullgraph=True)


class OpenVinoNetwork(torch.nn.Module):
    """A network for diffusers that OpenVINO runs, with any batch size; `hint` is f32 or bf16."""

    def __init__(self, unet: Any, hint: str) -> None:
        import openvino

        super().__init__()
        self.config, self.dtype, self.device = unet.config, unet.dtype, unet.device
        side, width = unet.config.sample_size, unet.config.cross_attention_dim
        example = {
            "sample": torch.zeros(2, unet.config.in_channels, side, side),
            "timestep": torch.tensor(1),
            "encoder_hidden_states": torch.zeros(2, 77, width),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = openvino.convert_model(unet, example_input=example)
        self._run = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})

    def forward(
        self, sample: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor]:
        inputs = (sample, torch.as_tensor(timestep), encoder_hidden_states)
        return (torch.from_numpy(self._run([value.numpy() for value in inputs])[0]),)


def peers(
    workload: Workload,
    device: torch.device,
    dtype: torch.dtype,
    with_compile: bool,
    only: Collection[str],
) -> dict[str, Diffusers]:
    """Return diffusers and all available faster variants of it, or `only` the named ones: there is
    no memory for all variants of a large network."""
    plain = load_diffusers(workload, device, dtype)
    cpu = device.type == "cpu"
    halves = cpu and has_bfloat16()

    def by_openvino(hint: str) -> Diffusers:
        return plain.with_network(OpenVinoNetwork(plain.unet, hint))

    variants: dict[str, Callable[[], Diffusers]] = {"diffusers": lambda: plain}
    if with_compile:
        variants["diffusers + compile"] = lambda: plain.with_network(compiled(plain.unet, device))
    if cpu:
        variants["diffusers + OpenVINO"] = lambda: by_openvino("f32")
    if halves:
        variants["diffusers, bf16"] = lambda: load_diffusers(workload, device, torch.bfloat16)
        variants["diffusers + OpenVINO, bf16"] = lambda: by_openvino("bf16")
    return {name: make() for name, make in variants.items() if not only or name in only}


def compare_images(
    model: LatentDiffusion, others: dict[str, Diffusers], workload: Workload, rounds: int
) -> list[dict[str, object]]:
    """Measure complete images: one, eight alike, eight mixed. The difference is in grey levels."""
    engine = engine_for(workload.name, model, BATCH)
    alike = [txt2img_job(workload, seed) for seed in range(BATCH)]
    mixed = [mixed_job(workload, seed) for seed in range(BATCH)]

    def one_by_one(system: Diffusers) -> Generate:
        return lambda: [system.one(job) for job in mixed]

    def in_a_batch(system: Diffusers) -> Generate:
        return lambda: system.batch([job.request for job in alike])

    def alone(system: Diffusers) -> Generate:
        return lambda: system.one(alike[0])

    difference = _difference(
        generate(engine, alike[:1]).outcomes[0].pixels[0],
        next(iter(others.values())).one(alike[0])[0],
    )
    settings: list[tuple[str, int, Generate, Callable[[Diffusers], Generate]]] = [
        ("one", 1, lambda: generate(engine, alike[:1]), alone),
        (f"{BATCH} alike", BATCH, lambda: generate(engine, alike), in_a_batch),
        (f"{BATCH} mixed", BATCH, lambda: generate(engine, mixed), one_by_one),
    ]
    results: list[dict[str, object]] = []
    for setting, images, ours, theirs in settings:
        systems = {OURS: ours, **{name: theirs(system) for name, system in others.items()}}
        for row in measure(systems, rounds, images):
            results.append({"setting": setting, **row})
    results[0]["difference_from_diffusers"] = difference
    return results


def compare_steps(
    model: LatentDiffusion, others: dict[str, Diffusers], workload: Workload, rounds: int
) -> list[dict[str, object]]:
    """Measure one guided denoising step of one image: two rows through the network."""
    params = SamplingParams(
        "red heart", width=workload.side, height=workload.side, steps=max(50, rounds + 2),
        guidance_scale=workload.guidance_scale,
    )  # fmt: skip
    [state] = model.start(params, [0])
    config = model.unet.config
    _, side, _ = model.latent_shape(workload.side, workload.side)
    x = torch.randn(2, config.in_channels, side, side)
    assert config.cross_attention_dim is not None  # all workloads are text to image models
    context = torch.randn(2, 77, config.cross_attention_dim)

    def theirs(system: Diffusers) -> Generate:
        @torch.no_grad()
        def step() -> object:
            return system.unet(x, torch.tensor(500), encoder_hidden_states=context)

        return step

    systems: dict[str, Generate] = {OURS: lambda: model.advance([state])}
    systems |= {name: theirs(system) for name, system in others.items()}
    return [{"setting": "one guided step", **row} for row in measure(systems, rounds, 1)]


def measure(systems: dict[str, Generate], rounds: int, each: int) -> list[dict[str, object]]:
    """Run every system once as warm-up, then in `rounds` alternating rounds of `each` images."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for round_ in range(rounds + 1):
        for name, run in systems.items():
            started = time.perf_counter()
            run()
            taken = time.perf_counter() - started
            print(f"{name}: {taken:.2f} s", file=sys.stderr, flush=True)  # it may take minutes
            if round_:
                seconds[name].append(taken)
    ours = statistics.median(seconds[OURS])
    return [
        {
            "system": name,
            "per_s": each / statistics.median(measured),
            "median_s": statistics.median(measured),
            "best_s": min(measured),
            "ours_is_faster": statistics.median(measured) / ours,
        }
        for name, measured in seconds.items()
    ]


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours.astype(float) - theirs.astype(float)).mean())


def _image(png: bytes | None) -> Image.Image:
    assert png
    return Image.open(io.BytesIO(png))


def _table_rows(results: Iterable[dict[str, object]]) -> Iterable[Iterable[object]]:
    for row in results:
        yield (f"{row['setting']}: {row['system']}", *list(row.values())[2:6])


def options() -> argparse.ArgumentParser:
    parser = arguments("peers", __doc__)
    parser.add_argument("--workload", choices=WORKLOADS, default=BUNDLED_EMOJI.name)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="for machines without a compiler")
    parser.add_argument(
        "--only", action="append", default=[], help="name of a system to compare with; repeatable"
    )
    return parser


def main() -> None:
    given = options().parse_args()
    device = default_device()
    workload, rounds = WORKLOADS[given.workload], given.rounds
    if given.smoke:
        workload, rounds = workload.smaller(), 1
    model = ready_model(workload)
    with_compile = not (given.no_compile or given.smoke)
    others = peers(workload, device, model.dtype, with_compile, given.only)
    whole = device.type != "cpu" or given.workload in [small.name for small in SMALL]
    compare = compare_images if whole else compare_steps
    results = compare(model, others, workload, rounds)
    synchronize(device)
    publish(
        f"peers-{workload.name}",
        given,
        str(device),
        [
            table(
                f"{workload.name} {workload.side}², {workload.steps} steps, {rounds} rounds",
                ("setting: system", "per second", "median s", "best s", "ours is × faster"),
                _table_rows(results),
            )
        ],
        {
            "workload": workload.name, "side": workload.side, "steps": workload.steps,
            "guidance_scale": workload.guidance_scale, "rounds": rounds,
            "executor": model.executors.name, "dtype": str(precision(model)),
            "threads": torch.get_num_threads(), "results": results,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
