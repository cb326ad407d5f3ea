"""Images generated with ControlNets, against diffusers' pipelines, and in batches."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.checkpoints.checkpoint import CheckpointError
from models.denoising.sampling_params import ControlImage, SamplingParams
from models.executors.base import Network, Run
from models.executors.controlled import ControlledRuns
from models.loading.controlnets import ControlNets
from models.pipeline import LatentDiffusion
from tests.models.pipeline.test_pipeline import as_tensor, assert_same_image, ours, photo
from tests.support.tiny_models import write_tiny_controlnet

PARAMS = SamplingParams(
    "the red cat", "a bad cat", width=48, height=32, steps=6, sampler="ddim", schedule="leading",
    guidance_scale=4.0, seed=11,
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_sd_folder: Path) -> Path:
    store = tmp_path_factory.mktemp("controlnets")
    write_tiny_controlnet(store / "edges", tiny_sd_folder, seed=3)
    write_tiny_controlnet(store / "depth", tiny_sd_folder, seed=4)
    return store


@pytest.fixture(scope="module")
def nets(store: Path) -> ControlNets:
    return ControlNets(store)


def control_image(width: int, height: int, turn: int = 0) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    lines = ((x + (turn + 1) * y) % 11 < 3) * 255
    return Image.fromarray(np.stack([lines, lines // 2, 255 - lines], axis=-1).astype(np.uint8))


def as_control(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def theirs(kind: str, folder: Path, nets: list[Path], params: SamplingParams, **inputs: Any) -> Any:
    """Return the image of a pipeline of diffusers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = [diffusers.ControlNetModel.from_pretrained(net) for net in nets]
        pipe = getattr(diffusers, kind).from_pretrained(
            folder, controlnet=loaded[0] if len(loaded) == 1 else loaded
        )
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = diffusers.DDIMScheduler.from_config(
            pipe.scheduler.config, clip_sample=False
        )
        image = pipe(
            prompt=params.prompt,
            negative_prompt=params.negative_prompt or None,
            num_inference_steps=params.steps,
            guidance_scale=params.guidance_scale,
            generator=torch.Generator().manual_seed(params.seed),
            width=params.width,
            height=params.height,
            **inputs,
        ).images[0]
    return np.asarray(image)


@pytest.mark.parametrize(
    ("weight", "interval"), [(1.0, (0.0, 1.0)), (0.6, (0.0, 1.0)), (1.4, (0.2, 0.7))]
)
def test_one_controlnet_by_weight_and_window(
    tiny_sd: LatentDiffusion,
    tiny_sd_folder: Path,
    store: Path,
    nets: ControlNets,
    weight: float,
    interval: tuple[float, float],
) -> None:
    image = control_image(48, 32)
    net = nets.get("edges", tiny_sd)
    params = replace(PARAMS, controls=(ControlImage(net, as_control(image), weight, interval),))
    expected = theirs(
        "StableDiffusionControlNetPipeline", tiny_sd_folder, [store / "edges"], params, image=image,
        controlnet_conditioning_scale=weight, control_guidance_start=interval[0],
        control_guidance_end=interval[1],
    )  # fmt: skip
    mine = ours(tiny_sd, params)
    assert_same_image(mine, expected)
    assert np.abs(mine.astype(int) - ours(tiny_sd, PARAMS).astype(int)).max() > 10


def test_two_controlnets_each_with_its_own_window(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, store: Path, nets: ControlNets
) -> None:
    images = [control_image(48, 32), control_image(48, 32, turn=2)]
    edges, depth = (nets.get(name, tiny_sd) for name in ("edges", "depth"))
    params = replace(
        PARAMS,
        controls=(
            ControlImage(edges, as_control(images[0]), 0.8, (0.0, 0.5)),
            ControlImage(depth, as_control(images[1]), 0.5, (0.3, 1.0)),
        ),
    )
    expected = theirs(
        "StableDiffusionControlNetPipeline", tiny_sd_folder, [store / "edges", store / "depth"],
        params, image=images, controlnet_conditioning_scale=[0.8, 0.5],
        control_guidance_start=[0.0, 0.3], control_guidance_end=[0.5, 1.0],
    )  # fmt: skip
    assert_same_image(ours(tiny_sd, params), expected)


@pytest.mark.parametrize("task", ["Img2Img", "Inpaint"])
def test_with_an_image_and_with_a_mask(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, store: Path, nets: ControlNets, task: str
) -> None:
    image, control = photo(48, 32), control_image(48, 32)
    params = replace(
        PARAMS,
        strength=0.7,
        image=as_tensor(image),
        controls=(ControlImage(nets.get("edges", tiny_sd), as_control(control), 0.9),),
    )
    inputs: dict[str, Any] = {"image": image, "control_image": control, "strength": 0.7}
    if task == "Inpaint":
        mask = np.zeros((32, 48), np.uint8)
        mask[8:24, 12:36] = 255
        params = replace(params, mask=torch.from_numpy(mask)[None] / 255)
        inputs |= {"mask_image": Image.fromarray(mask)}
    kind = f"StableDiffusionControlNet{task}Pipeline"
    expected = theirs(
        kind, tiny_sd_folder, [store / "edges"], params, controlnet_conditioning_scale=0.9, **inputs
    )
    assert_same_image(ours(tiny_sd, params), expected)


def test_sdxl(tiny_sdxl: LatentDiffusion, tiny_sdxl_folder: Path, tmp_path: Path) -> None:
    write_tiny_controlnet(tmp_path / "xl", tiny_sdxl_folder)
    net, image = ControlNets(tmp_path).get("xl", tiny_sdxl), control_image(48, 32)
    params = replace(PARAMS, controls=(ControlImage(net, as_control(image), 0.8),))
    expected = theirs(
        "StableDiffusionXLControlNetPipeline", tiny_sdxl_folder, [tmp_path / "xl"], params,
        image=image, controlnet_conditioning_scale=0.8,
    )  # fmt: skip
    assert_same_image(ours(tiny_sdxl, params), expected)


def test_control_image_is_resized_to_the_result(
    tiny_sd: LatentDiffusion, nets: ControlNets
) -> None:
    net, image = nets.get("edges", tiny_sd), as_control(photo(48, 32))
    larger = torch.nn.functional.interpolate(image[None], size=(64, 96), mode="bicubic")[0]
    small, large = (
        ours(tiny_sd, replace(PARAMS, controls=(ControlImage(net, of),))) for of in (image, larger)
    )
    assert np.abs(small.astype(int) - large.astype(int)).mean() < 3


def finals(model: LatentDiffusion, all_params: list[SamplingParams]) -> list[Tensor]:
    *_, last = model.generate(all_params)
    return [state.x for state in last]


def test_image_with_controlnets_has_the_same_bits_in_any_batch(
    tiny_sd: LatentDiffusion, nets: ControlNets
) -> None:
    edges, depth = (nets.get(name, tiny_sd) for name in ("edges", "depth"))
    all_params = [
        replace(
            PARAMS,
            seed=seed,
            guidance_scale=scale,
            controls=(
                ControlImage(edges, as_control(control_image(48, 32, seed)), weight),
                ControlImage(depth, as_control(control_image(48, 32, seed + 1)), 1 - weight / 2),
            ),
        )
        for seed, weight, scale in ((1, 1.0, 4.0), (2, 0.3, 1.0), (3, 1.7, 9.0))
    ]
    together = finals(tiny_sd, all_params)
    for params, generated in zip(all_params, together, strict=True):
        (alone,) = finals(tiny_sd, [params])
        assert torch.equal(alone, generated)


def test_images_with_different_controlnets_cannot_share_a_step(
    tiny_sd: LatentDiffusion, nets: ControlNets
) -> None:
    control = ControlImage(nets.get("edges", tiny_sd), as_control(control_image(48, 32)))
    with pytest.raises(ValueError, match="cannot share a step"):
        finals(tiny_sd, [PARAMS, replace(PARAMS, controls=(control,))])


def test_only_added_controlnets_are_available_and_few_are_kept(
    store: Path, tiny_sd: LatentDiffusion, tiny_sdxl: LatentDiffusion, tmp_path: Path
) -> None:
    nets = ControlNets(store, kept=1)
    assert nets.fitting(tiny_sd) == ("depth", "edges")
    assert nets.fitting(tiny_sdxl) == ()
    assert "cross_attention_dim 32, not 64" in (nets.misfits(tiny_sdxl)["edges"] or "")
    assert ControlNets(tmp_path / "absent").fitting(tiny_sd) == ()
    for name in ("../edges", str(store / "edges"), "none", ""):
        with pytest.raises(CheckpointError, match="no ControlNet"):
            nets.get(name, tiny_sd)
    edges = nets.get("edges", tiny_sd)
    assert nets.get("edges", tiny_sd) is edges
    nets.get("depth", tiny_sd)
    assert nets.get("edges", tiny_sd) is not edges


def test_incomplete_controlnet_is_ignored_and_a_replaced_one_is_reloaded(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, tmp_path: Path
) -> None:
    nets = ControlNets(tmp_path)
    write_tiny_controlnet(tmp_path / "edges", tiny_sd_folder)
    before = nets.get("edges", tiny_sd)
    write_tiny_controlnet(tmp_path / "edges", tiny_sd_folder, seed=9)
    assert nets.get("edges", tiny_sd) is not before
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        (tmp_path / "edges" / file).rename(tmp_path / "aside")
        assert nets.fitting(tiny_sd) == ()
        (tmp_path / "aside").rename(tmp_path / "edges" / file)
    assert nets.fitting(tiny_sd) == ("edges",)


def test_few_sets_of_controlnets_are_cached(
    tiny_sd: LatentDiffusion, store: Path, nets: ControlNets
) -> None:
    runs, made = ControlledRuns(), []

    def run(network: Network) -> Run:
        made.append(network)
        return tiny_sd.executors.controlled(network)

    loaded = [ControlNets(store).get("edges", tiny_sd) for _ in range(6)]
    for net in (*loaded[:4], loaded[1]):
        runs.get(tiny_sd.unet, (net,), run)
    assert len(made) == 4
    runs.get(tiny_sd.unet, (loaded[4],), run)  # the first is evicted
    runs.get(tiny_sd.unet, (loaded[1],), run)
    assert len(made) == 5
    runs.get(tiny_sd.unet, (loaded[0],), run)
    assert len(made) == 6
