"""The ControlNet against diffusers: names, shapes, residuals, and the UNet with them."""

from __future__ import annotations

import itertools
import json
import warnings
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from models.checkpoints.detect.detected_file import detect_file
from models.checkpoints.errors import UnsupportedConfig
from models.checkpoints.meta import meta_device
from models.networks.config import UNetConfig
from models.networks.controlnet import ControlNet, ControlNetConfig
from models.networks.unet import AddedConditioning, Residuals, UNet
from tests.models.published.families import SSD_1B_UNET, VEGA_UNET, narrow
from tests.support.published import SD15, SDXL, published, small_unet
from tests.support.sampling import sample

TOLERANCE = 1e-5  # relative to the largest value of the reference
CANNY = "lllyasviel__control_v11p_sd15_canny"


def small_controlnet(unet: dict[str, Any]) -> dict[str, Any]:
    """Build a ControlNet for a UNet configuration, with few channels for the control image."""
    config = published(CANNY, "config.json")
    shared = {key: unet[key] for key in config if key in unet and not key.startswith("_")}
    more = ("addition_embed_type", "addition_time_embed_dim", "transformer_layers_per_block")
    shared |= {key: unet[key] for key in more if key in unet}
    return config | shared | {"conditioning_embedding_out_channels": [16, 16, 32, 32]}


def randomised(network: nn.Module) -> nn.Module:
    """Set weights where training begins at zero, and norms that are not one and zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def close(ours: Tensor, theirs: Tensor) -> bool:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max()) < TOLERANCE * float(theirs.abs().max())


def test_parameters_are_those_of_diffusers_at_the_published_configuration() -> None:
    config = published(CANNY, "config.json")
    with meta_device():
        ours = ControlNet(ControlNetConfig.from_dict(config)).state_dict()
        theirs = diffusers.ControlNetModel.from_config(config).state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    assert len(ours) == 340
    assert sum(t.numel() for t in ours.values()) == 361_279_120


@pytest.mark.parametrize("unet", [SSD_1B_UNET, VEGA_UNET], ids=["ssd-1b", "segmind-vega"])
def test_parameters_for_networks_distilled_block_by_block(unet: dict[str, Any]) -> None:
    """With another number of transformer blocks after each resnet; also as of a single file."""
    with meta_device(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = diffusers.UNet2DConditionModel.from_config(unet)
        theirs = diffusers.ControlNetModel.from_unet(reference, load_weights_from_unet=False)
        config = {**theirs.config}
        expected = {n: tuple(t.shape) for n, t in theirs.state_dict().items()}
        detected = detect_file(expected).config("controlnet")
        for one in (config, detected):
            ours = ControlNet(ControlNetConfig.from_dict(one)).state_dict()
            assert {n: tuple(t.shape) for n, t in ours.items()} == expected
    assert "reverse_transformer_layers_per_block" not in detected
    assert json.loads(json.dumps(ControlNetConfig.from_dict(config).to_dict()))


@pytest.mark.parametrize("unet", [SSD_1B_UNET, VEGA_UNET], ids=["ssd-1b", "segmind-vega"])
def test_residuals_for_networks_distilled_block_by_block(unet: dict[str, Any]) -> None:
    small = narrow(unet)
    config = small_controlnet(small) | {"mid_block_type": small["mid_block_type"]}
    theirs = randomised(diffusers.ControlNetModel.from_config(config))
    net = ControlNet(ControlNetConfig.from_dict(config)).eval()
    net.load_state_dict(theirs.state_dict())
    x, timestep, image = seeded(1, 4, 16, 24), torch.tensor([500.0]), seeded(1, 3, 128, 192)
    context = seeded(1, 77, small["cross_attention_dim"])
    width = small["projection_class_embeddings_input_dim"] - 6 * small["addition_time_embed_dim"]
    pooled, ids = seeded(1, width), torch.tensor([[1024.0, 768, 0, 8, 1024, 768]])
    kwargs = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
    with torch.no_grad():
        expected = theirs(x, timestep, context, image, **kwargs)
        ours = net(x, timestep, context, net.embed(image), AddedConditioning(pooled, ids))
    for mine, its in zip(ours.skips, expected.down_block_res_samples, strict=True):
        assert close(mine, its)
    assert close(ours.mid, expected.mid_block_res_sample)


@pytest.mark.parametrize(
    ("pools", "model", "order"),
    sample(itertools.product([False, True, None], [SD15, SDXL], ["rgb", "bgr"]), every=5),
)
def test_residuals_and_unet_output(model: str, order: str, pools: bool | None) -> None:
    """pools: the residuals are averaged over height and width, as of the shuffle ControlNet."""
    unet_config = small_unet(model)
    config = small_controlnet(unet_config) | {
        "controlnet_conditioning_channel_order": order,
        "global_pool_conditions": pools,
    }
    theirs = randomised(diffusers.ControlNetModel.from_config(config))
    their_unet = randomised(diffusers.UNet2DConditionModel.from_config(unet_config))
    net = ControlNet(ControlNetConfig.from_dict(config)).eval()
    net.load_state_dict(theirs.state_dict())
    unet = UNet(UNetConfig.from_dict(unet_config)).eval()
    unet.load_state_dict(their_unet.state_dict())
    x, timestep, context = seeded(2, 4, 16, 24), torch.tensor([1.0, 500.0]), seeded(2, 77, 48)
    image = seeded(2, 3, 128, 192).sigmoid()
    added, kwargs = None, {}
    if model == SDXL:
        pooled, ids = seeded(2, 64), torch.tensor([[1024.0, 768, 0, 8, 1024, 768]] * 2)
        added = AddedConditioning(pooled, ids)
        kwargs = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
    with torch.no_grad():
        residuals = theirs(x, timestep, context, image, conditioning_scale=0.7, **kwargs)
        ours = net(x, timestep, context, net.embed(image), added)
        assert (ours.mid.shape[2:] == (1, 1)) == bool(pools)
        ours = Residuals(tuple(0.7 * skip for skip in ours.skips), 0.7 * ours.mid)
        for mine, its in zip(ours.skips, residuals.down_block_res_samples, strict=True):
            assert close(mine, its)
        assert close(ours.mid, residuals.mid_block_res_sample)
        expected = their_unet(
            x,
            timestep,
            context,
            down_block_additional_residuals=residuals.down_block_res_samples,
            mid_block_additional_residual=residuals.mid_block_res_sample,
            **kwargs,
        ).sample
        assert close(unet(x, timestep, context, added, ours), expected)
        assert not close(unet(x, timestep, context, added), expected)


@pytest.mark.parametrize("model", [SD15, SDXL])
@pytest.mark.parametrize("pools", [False, True])
def test_configurations_survive_json_and_are_read_by_diffusers(model: str, pools: bool) -> None:
    published = small_controlnet(small_unet(model)) | {"global_pool_conditions": pools}
    config = ControlNetConfig.from_dict(published)
    written = json.loads(json.dumps(config.to_dict()))
    assert ControlNetConfig.from_dict(written) == config
    with meta_device():
        theirs = diffusers.ControlNetModel.from_config(written).state_dict()
        ours = ControlNet(config).state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    assert config.global_pool_conditions is pools


@pytest.mark.parametrize(
    "change",
    [
        {"controlnet_conditioning_channel_order": "hsv"},
        {"_class_name": "ControlNetUnionModel"},
        {"encoder_hid_dim": 768},
        {"down_block_types": ["SimpleCrossAttnDownBlock2D"] * 4},
    ],
)
def test_unsupported_controlnet_options_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedConfig):
        ControlNetConfig.from_dict(published(CANNY, "config.json") | change)


def test_controlnet_fits_unets_of_its_kind_only() -> None:
    canny = ControlNetConfig.from_dict(published(CANNY, "config.json"))
    sd15 = UNetConfig.from_dict(published(SD15, "unet/config.json"))
    inpainting = published("runwayml__stable-diffusion-inpainting", "unet/config.json")
    sdxl = UNetConfig.from_dict(published(SDXL, "unet/config.json"))
    assert canny.mismatch(sd15, 8) is None
    assert canny.mismatch(UNetConfig.from_dict(inpainting), 8) is None
    assert "cross_attention_dim 768, not 2048" in (canny.mismatch(sdxl, 8) or "")
    assert "pixels per latent 8, not 4" in (canny.mismatch(sd15, 4) or "")
