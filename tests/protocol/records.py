"""Hypothesis strategies for the records of the protocol, and an example of a model card."""

from hypothesis import strategies as st

from protocol.queue.job import (
    ExtraFile,
    FinishReason,
    ImageResult,
    JobResult,
    JobState,
    JobView,
    Phase,
    Progress,
    RequestWarning,
    Timings,
)
from protocol.registry.presence import WorkerReport, WorkerState
from protocol.request.fields import SEED_LIMIT
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import (
    AudioFormat,
    Extra,
    ExtraFormat,
    OutputFormat,
    extra_key,
    result_key,
)
from protocol.request.outpainting import Outpainting, outpainting
from protocol.request.prompts import PromptSyntax
from protocol.request.request import (
    Box,
    ControlUse,
    Decoder,
    GenerationRequest,
    LoraUse,
    Priority,
)
from protocol.request.tasks import Task

CARD = ModelCard(
    name="tiny",
    family="test",
    default_width=64,
    default_height=64,
    min_side=16,
    max_side=256,
    max_pixels=128 * 256,
    samplers=("ddim", "euler"),
    schedules=("leading", "karras"),
    default_sampler="ddim",
    default_schedule="leading",
    max_prompt_tokens=20,
)

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-._", min_size=1, max_size=40)
prompts = st.text(max_size=200)
seeds = st.integers(0, SEED_LIMIT - 1)
seconds = st.floats(0, 1e6)
job_ids = st.text("0123456789abcdef", min_size=32, max_size=32)
input_keys = st.text("0123456789abcdef", min_size=64, max_size=64).map("inputs/{}".format)


shares = st.floats(0, 1)
boxes = st.fixed_dictionaries(
    {
        "class": st.integers(0, 1000),
        "x": shares,
        "y": shares,
        "width": st.floats(0, 1, exclude_min=True),
        "height": st.floats(0, 1, exclude_min=True),
    }
).map(Box.model_validate)


loras = st.builds(LoraUse, name=names, weight=st.floats(-4, 4))
controls = st.builds(
    ControlUse, model=names, image_key=input_keys, weight=st.floats(0, 2), start=shares, end=shares
)


@st.composite
def outpaintings(draw: st.DrawFn) -> Outpainting:
    """An image with borders, on which windows are generated."""
    sides = st.integers(1, 200)
    size, borders = (draw(sides), draw(sides)), st.integers(0, 200)
    window = draw(st.integers(16, 128)), draw(st.integers(16, 128))
    blend = draw(st.integers(0, min(*size, *window) // 4))
    return outpainting(size, (draw(borders), draw(borders), draw(borders), 1), window, blend)


@st.composite
def requests(draw: st.DrawFn) -> GenerationRequest:
    task = draw(st.sampled_from(Task))
    return GenerationRequest(
        task=task,
        model=draw(names),
        prompt=draw(prompts),
        negative_prompt=draw(prompts),
        prompt_syntax=draw(st.sampled_from(PromptSyntax)),
        clip_skip=draw(st.integers(0, 12)),
        width=draw(st.integers(1, 4096)),
        height=draw(st.integers(1, 4096)),
        steps=draw(st.integers(1, 1000)),
        sampler=draw(names),
        schedule=draw(names),
        guidance_scale=draw(st.floats(0, 100)),
        seed=draw(seeds),
        n=draw(st.integers(1, 64)),
        strength=draw(st.floats(0, 1, exclude_min=True)) if task.takes("strength") else None,
        image_key=draw(input_keys) if task.takes_image else None,
        mask_key=draw(input_keys) if task.takes_mask else None,
        class_id=draw(st.integers(0, 1000)) if task.takes("class_id") else None,
        boxes=tuple(draw(st.lists(boxes, min_size=1))) if task.takes("boxes") else None,
        decoder=draw(st.sampled_from(Decoder)),
        previews=draw(st.booleans()),
        loras=tuple(draw(st.lists(loras, max_size=8))),
        controls=tuple(draw(st.lists(controls, max_size=4))) if task.takes("controls") else (),
        output_format=draw(st.sampled_from(OutputFormat)),
        quality=draw(st.integers(1, 100)),
        audio_format=draw(st.none() | st.sampled_from(AudioFormat)),
        audio_stereo=draw(st.booleans()),
        priority=draw(st.sampled_from(Priority)),
        outpainting=draw(outpaintings()) if task is Task.OUTPAINT else None,
        deadline_s=draw(st.none() | st.floats(0.001, 1e5)),
    )


@st.composite
def extras(draw: st.DrawFn) -> ExtraFile:
    kind, file_format = draw(
        st.just((Extra.DEPTH, ExtraFormat.PNG))
        | st.tuples(
            st.just(Extra.SOUND),
            st.sampled_from([ExtraFormat.WAV, ExtraFormat.FLAC, ExtraFormat.MP3]),
        )
    )
    key = extra_key(draw(job_ids), draw(st.integers(0, 9999)), kind, file_format)
    return ExtraFile(kind=kind, key=key, format=file_format, bytes=draw(st.integers(0, 2**31)))


@st.composite
def images(draw: st.DrawFn) -> ImageResult:
    kind = draw(st.sampled_from(OutputFormat))
    return ImageResult(
        key=result_key(draw(job_ids), draw(st.integers(0, 9999)), kind),
        seed=draw(seeds),
        width=draw(st.integers(1, 4096)),
        height=draw(st.integers(1, 4096)),
        format=kind,
        bytes=draw(st.integers(0, 2**31)),
        extras=tuple(draw(st.lists(extras(), max_size=1))),
        finish_reason=draw(st.sampled_from(FinishReason)),
    )


timings = st.builds(
    Timings,
    queued=seconds,
    encode=seconds,
    denoise=seconds,
    decode=seconds,
    deliver=seconds,
    total=seconds,
)
results = st.builds(JobResult, images=st.lists(images(), max_size=4).map(tuple), timings=timings)
progress = st.builds(
    Progress,
    job_id=job_ids,
    state=st.sampled_from(JobState),
    step=st.integers(0, 1000),
    steps=st.integers(0, 1000),
    phase=st.none() | st.sampled_from(Phase),
    previews=st.integers(0, 1000),
)
request_warnings = st.builds(
    RequestWarning,
    code=st.from_regex(r"[a-z]+(-[a-z]+)*", fullmatch=True),
    field=names,
    detail=prompts,
)
views = st.builds(
    JobView,
    id=job_ids,
    state=st.sampled_from(JobState),
    position=st.none() | st.integers(0, 1000),
    eta_s=st.none() | seconds,
    progress=st.none() | progress,
    result=st.none() | results,
    error=st.none(),
    warnings=st.lists(request_warnings, max_size=3).map(tuple),
)
reports = st.builds(
    WorkerReport,
    name=names,
    state=st.sampled_from(WorkerState),
    model=st.none() | names,
    device=st.none() | names,
    detail=prompts,
    progress=st.none() | st.floats(0, 1),
)
