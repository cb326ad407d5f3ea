"""Models whose UNet is conditioned on an image, in one engine: a crowd changes no byte."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.cuda.graphs import Graphed
from models.denoising.patches import Patches
from models.executors import compiled, openvino
from models.executors.base import Run, denoiser
from models.loading.loader import load_model
from models.pipeline import LatentDiffusion
from protocol.request.request import Task, Tiles
from tests.models.cuda.test_graphs import again
from tests.support.tiny_models import (
    write_tiny_depth,
    write_tiny_edit,
    write_tiny_inpainting,
    write_tiny_sd,
    write_tiny_upscaling,
)
from tests.worker.engine.test_engine import KEY, RecordingListener, request, run
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import unmeasured
from worker.interfaces import AdmittedJob, Pixels

WRITERS: dict[str, Callable[[Path], Path]] = {
    "plain": write_tiny_sd,
    "inpainting": write_tiny_inpainting,
    "edit": write_tiny_edit,
    "depth": write_tiny_depth,
    "upscaling": write_tiny_upscaling,
}


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    channels = (3,) if mode == "RGB" else ()
    values = np.random.default_rng(2).integers(0, 256, (height, width, *channels), np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Wanted:
    """A request of the crowd: its model, the size of its image, and its fields."""

    model: str
    fields: dict[str, Any] = field(default_factory=dict)
    task: Task = Task.IMG2IMG
    size: tuple[int, int] = (32, 32)

    def job(self, name: str, listener: RecordingListener) -> AdmittedJob:
        given: dict[str, Any] = {"task": self.task, "model": self.model, "steps": 3}
        width, height = self.size
        given |= {"width": width, "height": height, "sampler": "euler_ancestral"}
        image = mask = None
        if self.task.takes("image"):
            factor = 4 if self.task is Task.UPSCALE else 1
            image = png(width // factor, height // factor)
            given["image_key"] = KEY
        if self.task.takes("strength"):
            given["strength"] = 1.0
        if self.task.takes("mask"):
            mask = png(width, height, "L")
            given["mask_key"] = KEY
        depth = None
        if self.model == "depth":
            depth = png(*self.size, "L")
            given |= {"depth_map_key": KEY, "strength": 0.7}
        one = request(**given | self.fields)
        return AdmittedJob(name, one, image, mask, listener, depth_map=depth)


EDIT: dict[str, Any] = {"guidance_scale": 3.0, "image_guidance_scale": 1.7}
UPSCALE = {"guidance_scale": 4.0, "noise_level": 20}
TILES = {"tiles": Tiles(size=32, overlap=8, upscaler="lanczos")}
CROWD = [
    Wanted("plain", {"guidance_scale": 3.0}, Task.TXT2IMG),
    Wanted("plain", {"strength": 0.7}),
    Wanted("inpainting", task=Task.INPAINT),
    Wanted("edit", EDIT),
    Wanted("edit", EDIT | {"guidance_scale": 1.0, "seed": 5}),
    Wanted("edit", EDIT | {"image_guidance_scale": 1.0, "sampler": "ddim"}),
    Wanted("edit", EDIT | {"guidance_start": 0.3, "guidance_rescale": 0.7, "steps": 4}),
    Wanted("edit", EDIT | {"strength": 0.7, "seed": 9, "n": 2}),
    Wanted("edit", EDIT | TILES, size=(48, 40)),
    Wanted("upscaling", UPSCALE, Task.UPSCALE),
    Wanted("upscaling", UPSCALE | {"noise_level": 300}, Task.UPSCALE),
    Wanted("upscaling", UPSCALE | {"guidance_scale": 1.0, "n": 2}, Task.UPSCALE),
    Wanted("upscaling", UPSCALE | {"sampler": "ddim"}, Task.UPSCALE, (48, 20)),
    Wanted("depth", {"guidance_scale": 3.0}),
    Wanted("depth", {"strength": 1.0, "sampler": "ddim", "seed": 6}),
    Wanted("depth", {"guidance_scale": 3.0} | TILES, size=(48, 40)),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LatentDiffusion]:
    folder = tmp_path_factory.mktemp("models")
    cpu = torch.device("cpu")
    loaded = {name: load_model(str(write(folder / name)), cpu) for name, write in WRITERS.items()}
    in_patches = replace(loaded["upscaling"], patches=Patches(side=8, stride=4))
    return loaded | {"upscaling": in_patches}


def graphed(model: LatentDiffusion) -> Run:
    return Graphed(denoiser(model.unet).module, again, same_bytes=True, rows=(2, 4))


def frozen(model: LatentDiffusion) -> Run:
    fallback = model.executors.denoiser
    return compiled.Compiled(denoiser(model.unet), torch.float32, fallback, rows=(4,))


EXECUTORS: dict[str, Callable[[LatentDiffusion], Run]] = {
    "eager": lambda model: model.executors.denoiser,
    "graphs": graphed,
    "openvino": lambda model: openvino.OpenVino(denoiser(model.unet), torch.float32, None),
    "compiled": frozen,
}
AVAILABLE = {"openvino": openvino.available, "compiled": compiled.available}


@pytest.mark.parametrize(
    "executor",
    [
        "eager",
        pytest.param("graphs", marks=pytest.mark.long),
        pytest.param("openvino", marks=pytest.mark.long),
        pytest.param("compiled", marks=pytest.mark.long),
    ],
)
def test_mixed_crowd_gives_each_request_the_pixels_it_has_alone(
    models: dict[str, LatentDiffusion], executor: str
) -> None:
    if executor in AVAILABLE and not AVAILABLE[executor]():
        pytest.skip(f"{executor} is not available")
    make = EXECUTORS[executor]
    prepared = {
        name: replace(model, executors=replace(model.executors, denoiser=make(model)))
        for name, model in models.items()
    }
    alone = [images for wanted in CROWD for images in [generated(prepared, [wanted])[0]]]
    together = generated(prepared, CROWD)
    for wanted, mine, other in zip(CROWD, alone, together, strict=True):
        assert len(mine) == len(other), wanted
        assert all(map(np.array_equal, mine, other)), wanted
    assert len({images[0].tobytes() for images in alone}) == len(CROWD)


def generated(models: dict[str, LatentDiffusion], crowd: list[Wanted]) -> list[list[Pixels]]:
    engine = DiffusionEngine(
        {name: unmeasured(model, 4) for name, model in models.items()}, max_slots=16
    )
    listeners = [RecordingListener() for _ in crowd]
    for number, (wanted, listener) in enumerate(zip(crowd, listeners, strict=True)):
        engine.admit(wanted.job(f"job {number}", listener))
        engine.step()  # each joins images that are at other steps
    run(engine)
    return [[pixels for pixels, _ in listener.images.values()] for listener in listeners]
