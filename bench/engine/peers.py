"""Ours beside diffusers, with the same weights, in the same run, rounds taken in turn.

    python -m bench peers [--workload bundled|sd15|sdxl] [--rounds 5] [--no-compile] [--only NAME …]

Three settings: one picture at a time; eight alike at once, which diffusers draws as one batch; and
eight at once with different samplers, step counts and tasks, which it can only draw one after
another. Ours goes through the engine, as in the worker. Beside plain diffusers stand diffusers with
a compiled network (frozen on a CPU) and, on a CPU, with the network run by OpenVINO; where the CPU
has bfloat16, each of the last two also in that, as our own executor may be.

On a CPU a whole picture of the large models takes minutes: there, one guided step is measured.
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
    alike,
    draw,
    engine_for,
    mixed,
    model_folder,
    precision,
    ready_model,
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
CROWD = len(MIX)
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}

Draw = Callable[[], object]
Pictures = list[np.ndarray]


class Diffusers:
    """diffusers' pipelines over one set of components, one for each task."""

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
        """The same with another way to run the network."""
        components = {**self._pipelines[Task.TXT2IMG].components, "unet": unet}
        return Diffusers(type(self._pipelines[Task.TXT2IMG])(**components))

    def one(self, job: Job) -> Pictures:
        """One request, whatever its task and sampler."""
        request = job.request
        options: dict[str, Any] = {}
        if request.task.takes_image:
            options |= {"image": _image(job.image), "strength": request.strength}
        else:
            options |= {"width": request.width, "height": request.height}
        if request.task.takes_mask:
            options["mask_image"] = _image(job.mask)
        return self._run(request, [request], **options)

    def batch(self, requests: list[GenerationRequest]) -> Pictures:
        """Requests that differ by prompt and seed only, as one batch."""
        return self._run(requests[0], requests)

    def _run(
        self, alike: GenerationRequest, requests: list[GenerationRequest], **options: Any
    ) -> Pictures:
        pipeline = self._pipelines[alike.task]
        pipeline.scheduler = self._schedulers[alike.sampler]
        answer = pipeline(
            [request.prompt for request in requests],
            num_inference_steps=alike.steps,
            guidance_scale=alike.guidance_scale,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            output_type="np",
            **options,
        )
        return [np.asarray(255 * picture).round().astype(np.uint8) for picture in answer.images]


def load_diffusers(workload: Workload, device: torch.device, dtype: torch.dtype) -> Diffusers:
    """The workload's files, read by diffusers."""
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
    """The network under torch.compile; on a CPU with its weights frozen into the code."""
    import torch._inductor.config as inductor

    if device.type == "cpu":
        inductor.freezing = True
        return torch.compile(unet)
    return torch.compile(unet, mode="max-autotune", fullgraph=True)


class OpenVinoNetwork(torch.nn.Module):
    """A network that diffusers calls and OpenVINO runs, any batch size; `hint`: f32 or bf16."""

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
    """diffusers, and every way here to run its network faster; of these `only` some, if any are
    named: a large network has not room beside all of the others."""
    plain = load_diffusers(workload, device, dtype)
    cpu = device.type == "cpu"
    halves = cpu and has_bfloat16()

    def by_openvino(hint: str) -> Diffusers:
        return plain.with_network(OpenVinoNetwork(plain.unet, hint))

    ways: dict[str, Callable[[], Diffusers]] = {"diffusers": lambda: plain}
    if with_compile:
        ways["diffusers + compile"] = lambda: plain.with_network(compiled(plain.unet, device))
    if cpu:
        ways["diffusers + OpenVINO"] = lambda: by_openvino("f32")
    if halves:
        ways["diffusers, bf16"] = lambda: load_diffusers(workload, device, torch.bfloat16)
        ways["diffusers + OpenVINO, bf16"] = lambda: by_openvino("bf16")
    return {name: make() for name, make in ways.items() if not only or name in only}


def pictures(
    model: LatentDiffusion, others: dict[str, Diffusers], workload: Workload, rounds: int
) -> list[dict[str, object]]:
    """Whole pictures: one, eight alike, eight mixed; the difference is in grey levels of 255."""
    engine = engine_for(workload.name, model, CROWD)
    crowd = [alike(workload, seed) for seed in range(CROWD)]
    mix = [mixed(workload, seed) for seed in range(CROWD)]

    def one_by_one(system: Diffusers) -> Draw:
        return lambda: [system.one(job) for job in mix]

    def together(system: Diffusers) -> Draw:
        return lambda: system.batch([job.request for job in crowd])

    def alone(system: Diffusers) -> Draw:
        return lambda: system.one(crowd[0])

    difference = _difference(
        draw(engine, crowd[:1]).outcomes[0].pixels[0], next(iter(others.values())).one(crowd[0])[0]
    )
    settings: list[tuple[str, int, Draw, Callable[[Diffusers], Draw]]] = [
        ("one", 1, lambda: draw(engine, crowd[:1]), alone),
        (f"{CROWD} alike", CROWD, lambda: draw(engine, crowd), together),
        (f"{CROWD} mixed", CROWD, lambda: draw(engine, mix), one_by_one),
    ]
    results: list[dict[str, object]] = []
    for setting, images, ours, theirs in settings:
        contest = {OURS: ours, **{name: theirs(system) for name, system in others.items()}}
        for row in compare(contest, rounds, images):
            results.append({"setting": setting, **row})
    results[0]["difference_from_diffusers"] = difference
    return results


def steps(
    model: LatentDiffusion, others: dict[str, Diffusers], workload: Workload, rounds: int
) -> list[dict[str, object]]:
    """One guided denoising step of one picture: two rows through the network."""
    recipe = SamplingParams(
        "red heart", width=workload.side, height=workload.side, steps=max(50, rounds + 2),
        guidance_scale=workload.guidance_scale,
    )  # fmt: skip
    [trajectory] = model.start(recipe, [0])
    config = model.unet.config
    _, side, _ = model.latent_shape(workload.side, workload.side)
    x = torch.randn(2, config.in_channels, side, side)
    assert config.cross_attention_dim is not None  # peers draw from words
    context = torch.randn(2, 77, config.cross_attention_dim)

    def theirs(system: Diffusers) -> Draw:
        @torch.no_grad()
        def step() -> object:
            return system.unet(x, torch.tensor(500), encoder_hidden_states=context)

        return step

    contest: dict[str, Draw] = {OURS: lambda: model.advance([trajectory])}
    contest |= {name: theirs(system) for name, system in others.items()}
    return [{"setting": "one guided step", **row} for row in compare(contest, rounds, 1)]


def compare(contest: dict[str, Draw], rounds: int, each: int) -> list[dict[str, object]]:
    """Every contestant once to get warm, then `rounds` rounds in turn; `each` is done in a turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contest}
    for turn in range(rounds + 1):
        for name, act in contest.items():
            started = time.perf_counter()
            act()
            taken = time.perf_counter() - started
            print(f"{name}: {taken:.2f} s", file=sys.stderr, flush=True)  # it may take minutes
            if turn:
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


def _shown(results: Iterable[dict[str, object]]) -> Iterable[Iterable[object]]:
    for row in results:
        yield (f"{row['setting']}: {row['system']}", *list(row.values())[2:6])


def options() -> argparse.ArgumentParser:
    parser = arguments("peers", __doc__)
    parser.add_argument("--workload", choices=WORKLOADS, default=BUNDLED_EMOJI.name)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="where there is no compiler")
    parser.add_argument("--only", action="append", default=[], help="this of them, by its name")
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
    results = (pictures if whole else steps)(model, others, workload, rounds)
    synchronize(device)
    publish(
        "peers" if workload.name == "bundled" else f"peers-{workload.name}",
        given,
        str(device),
        [
            table(
                f"{workload.name} {workload.side}², {workload.steps} steps, {rounds} rounds",
                ("setting: system", "per second", "median s", "best s", "ours is × faster"),
                _shown(results),
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
