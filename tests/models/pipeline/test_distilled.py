"""Networks distilled with guidance, conditioned on its scale: against diffusers, and in batches.

Luo et al. 2023, "Latent Consistency Models": one row of the network for an image, guided or not.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from models.denoising.sampling_params import ControlImage, SamplingParams
from models.executors import base
from models.executors.eager import Eager
from models.executors.openvino import OpenVino
from models.loading.controlnets import ControlNets
from models.loading.loader import load_model
from models.networks.config import UNetConfig
from models.networks.unet import AddedConditioning, UNet, guidance_embedding
from models.pipeline import LatentDiffusion
from tests.models.networks.test_unet_family import randomised, relative_error, seeded
from tests.models.pipeline.test_control_images import as_control, control_image
from tests.models.pipeline.test_pipeline import as_tensor, assert_same_image, ours, photo
from tests.support.published import SD15, SDXL, small_unet
from tests.support.tiny_models import (
    write_tiny_controlnet,
    write_tiny_distilled,
    write_tiny_sd,
    write_tiny_sdxl,
)
from worker.model_info.model_card import model_card

PARAMS = SamplingParams(
    "the red cat", "a bad cat", width=48, height=32, steps=4, sampler="lcm", schedule="lcm",
    guidance_scale=8.5, seed=11,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_distilled(write_tiny_sd(tmp_path_factory.mktemp("distilled")))


@pytest.fixture(scope="module")
def model(folder: Path) -> LatentDiffusion:
    return load_model(str(folder), torch.device("cpu"))


def theirs(kind: str, folder: Path, params: SamplingParams, **inputs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        components = {"safety_checker": None} if "XL" not in kind else {}
        nets = {name: inputs.pop(name) for name in ("controlnet",) if name in inputs}
        pipe = getattr(diffusers, kind).from_pretrained(folder, **components, **nets)
        pipe.set_progress_bar_config(disable=True)
        image = pipe(
            prompt=params.prompt,
            num_inference_steps=params.steps,
            guidance_scale=params.guidance_scale,
            generator=torch.Generator().manual_seed(params.seed),
            **inputs,
        ).images[0]
    return np.asarray(image)


@pytest.mark.parametrize("published", [SD15, SDXL])
def test_the_network_is_that_of_diffusers(published: str) -> None:
    config = small_unet(published) | {"time_cond_proj_dim": 40}
    theirs = randomised(diffusers.UNet2DConditionModel.from_config(config).eval())
    network = UNet(UNetConfig.from_dict(config)).eval()
    network.load_state_dict(theirs.state_dict())
    assert network.config.to_dict()["time_cond_proj_dim"] == 40
    x, timestep = seeded(2, 4, 16, 16), torch.tensor([1.0, 500.0])
    context, conditioned = seeded(2, 77, network.config.cross_attention_dim or 0), seeded(2, 40)
    pooled = ids = None
    named = {}
    if network.config.pooled_dim is not None:
        pooled, ids = seeded(2, network.config.pooled_dim), 100 * seeded(2, 6).abs()
        named = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
    with torch.no_grad():
        expected = theirs(x, timestep, context, timestep_cond=conditioned, **named).sample
        got = network(x, timestep, context, AddedConditioning(pooled, ids, conditioned))
        untold = theirs(x, timestep, context, **named).sample
    assert relative_error(got, expected) < 1e-5
    assert relative_error(got, untold) > 1e-3
    with pytest.raises(ValueError, match="its guidance"):
        network(x, timestep, context, AddedConditioning(pooled, ids))


@pytest.mark.parametrize("scale", [0.0, 1.0, 1.5, 8.5, 30.0])
def test_guidance_is_embedded_as_published(scale: float) -> None:
    pipeline = diffusers.LatentConsistencyModelPipeline
    expected = pipeline.get_guidance_scale_embedding(
        None, torch.tensor([scale]) - 1, embedding_dim=256
    )
    assert torch.equal(guidance_embedding(scale, 256), expected[0])


@pytest.mark.parametrize(("steps", "scale"), [(4, 8.5), (2, 1.0), (1, 3.0)])
def test_images_equal_diffusers(
    model: LatentDiffusion, folder: Path, steps: int, scale: float
) -> None:
    params = replace(PARAMS, steps=steps, guidance_scale=scale)
    expected = theirs("LatentConsistencyModelPipeline", folder, params, width=48, height=32)
    assert_same_image(ours(model, params), expected)
    other = ours(model, replace(params, guidance_scale=scale + 4))
    assert np.abs(other.astype(int) - expected.astype(int)).max() > 5


def test_images_of_sdxl_equal_diffusers(tmp_path: Path) -> None:
    folder = write_tiny_distilled(write_tiny_sdxl(tmp_path))
    expected = theirs("StableDiffusionXLPipeline", folder, PARAMS, width=48, height=32)
    assert_same_image(ours(load_model(str(folder), torch.device("cpu")), PARAMS), expected)


def test_with_a_controlnet(model: LatentDiffusion, folder: Path, tmp_path: Path) -> None:
    write_tiny_controlnet(tmp_path / "edges", folder)
    net, image = ControlNets(tmp_path).get("edges", model), control_image(48, 32)
    params = replace(PARAMS, controls=(ControlImage(net, as_control(image), 0.8),))
    expected = theirs(
        "StableDiffusionControlNetPipeline", folder, params, width=48, height=32, image=image,
        controlnet=diffusers.ControlNetModel.from_pretrained(tmp_path / "edges"),
        controlnet_conditioning_scale=0.8,
    )  # fmt: skip
    assert_same_image(ours(model, params), expected)


def test_image_is_one_row_with_any_guidance(model: LatentDiffusion) -> None:
    all_params = [replace(PARAMS, guidance_scale=scale, seed=3) for scale in (1.0, 2.0, 8.5)]
    alone = [ours(model, params) for params in all_params]
    assert np.abs(alone[0].astype(int) - alone[2].astype(int)).max() > 5
    together = list(model.generate(all_params))[-1]
    assert {state.rows for state in together} == {1}
    for state, expected in zip(together, alone, strict=True):
        assert np.array_equal(model.decode(state.x[None])[0].numpy(), expected)


def test_image_to_image(model: LatentDiffusion) -> None:
    image = as_tensor(photo(48, 32))
    params = replace(PARAMS, image=image, strength=0.5)
    generated = ours(model, params)
    assert len(model.table(params, from_noise=False)) == 2
    assert np.abs(generated.astype(int) - ours(model, PARAMS).astype(int)).max() > 5


def test_other_executors_run_it(model: LatentDiffusion) -> None:
    network = base.denoiser(model.unet)
    inputs = network.examples(3)
    expected = Eager(network, same_bytes=True)(*inputs)
    run = OpenVino(network, torch.float32, None)
    tolerance = 1e-4 * float(expected.std())
    torch.testing.assert_close(run(*inputs), expected, rtol=0, atol=tolerance)


def test_card_has_few_default_steps(model: LatentDiffusion) -> None:
    card = model_card(model, "somebody/dreams")
    assert (card.default_sampler, card.default_schedule) == ("lcm", "lcm")
    assert (card.default_steps, card.default_guidance_scale) == (4, 8.5)
