"""Every UNet of the family against diffusers: names, shapes and outputs.

Task models of the paper in the classes and configurations of diffusers that hold their weights.
"""

from __future__ import annotations

import json
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from models.checkpoints.errors import UnsupportedConfig
from models.checkpoints.keys.diffusers import diffusers_plan
from models.checkpoints.meta import meta_device
from models.executors import base
from models.executors.eager import Eager
from models.networks.config import UNetConfig
from models.networks.unet import AddedConditioning, UNet
from tests.support.published import REFINER, SD15, SDXL, key_list, published, small_unet
from tests.support.shared_files import shared_file

TOLERANCE = 1e-5  # relative to the largest value of the reference
INPAINTING = "runwayml__stable-diffusion-inpainting"
CELEBA = "CompVis__ldm-celebahq-256"

# Eight heads at every level, which diffusers' UNet2DModel cannot express.
EIGHT_HEADS = ("inpainting_big", "lsun_churches256")
PAPER = (
    "bsr_sr",
    "celeba256/ffhq256/lsun_beds256",
    "semantic_synthesis256/512",
    "inpainting_big",
    "lsun_churches256",
    "cin256-v2",
    "cin256",
    "text2img256",
    "text2img-large (1p4B)",
    "layout2img-openimages256",
)


def modern_names(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the same shapes under the names of today's files."""
    return {name: shapes[part.key] for name, part in diffusers_plan(shapes).items()}


def paper_config(name: str) -> dict[str, Any]:
    """Return the diffusers configuration of one of the paper's UNets, with our key if needed."""
    path = shared_file(
        "facts/checkpoints/configs/CompVis__latent-diffusion/diffusers_equivalents.json"
    )
    equivalents = json.loads(path.read_text("utf-8"))
    (entry,) = (e for key, e in equivalents.items() if key.split(" (weights")[0] == name)
    config = {"_class_name": entry["diffusers_class"], **entry["config"]}
    return config | ({"num_attention_heads": 8} if name in EIGHT_HEADS else {})


def small_paper_config(name: str) -> dict[str, Any]:
    """Return the same with few channels and one resnet per level; every kind of block is kept."""
    config = paper_config(name)
    levels = len(config["block_out_channels"])
    config |= {"block_out_channels": [32, 64, 64, 96, 96][:levels], "sample_size": 16}
    if config["_class_name"] == "UNet2DModel":
        return config | {"attention_head_dim": 16}
    heads = config["attention_head_dim"]
    config |= {"attention_head_dim": heads if isinstance(heads, int) else [2, 4, 8, 4][:levels]}
    return config | {"cross_attention_dim": 48}


def reference(config: dict[str, Any]) -> nn.Module:
    """Build diffusers' network, with its heads set by hand where its class has no key."""
    rest = {k: v for k, v in config.items() if k != "_class_name"}
    heads = rest.pop("num_attention_heads", None)
    network: nn.Module = getattr(diffusers, config["_class_name"])(**rest).eval()
    for layer in network.modules():
        if heads is not None and isinstance(layer, diffusers.models.attention_processor.Attention):
            layer.heads = heads
            layer.scale = (layer.inner_dim // heads) ** -0.5
    return network


@torch.no_grad()
def randomised(network: nn.Module) -> nn.Module:
    """Set norms that are not one and zero, so that none can be taken for another."""
    generator = torch.Generator().manual_seed(7)
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def on_meta(config: dict[str, Any]) -> UNet:
    with meta_device():
        return UNet(UNetConfig.from_dict(config))


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(
    "model",
    [
        "CompVis__stable-diffusion-v1-4",
        "Intel__ldm3d",
        "rinna__japanese-stable-diffusion",
        "riffusion__riffusion-model-v1",
        CELEBA,
        SD15,
        SDXL,
        REFINER,
    ],
)
def test_parameters_are_those_of_the_published_file(model: str) -> None:
    ours = shapes(on_meta(published(model, "unet/config.json")))
    assert ours == modern_names(key_list(f"{model}.unet"))


def test_legacy_names_of_the_unconditional_file_are_read() -> None:
    ours = shapes(on_meta(published(CELEBA, "unet/config.json")))
    legacy = key_list("variants/celebahq.unet.legacy-attention-names")
    assert any("proj_attn" in name for name in legacy)
    assert ours == modern_names(legacy)


def test_the_inpainting_file_is_stable_diffusions_with_nine_channels() -> None:
    ours = shapes(on_meta(published(INPAINTING, "unet/config.json")))
    assert ours.pop("conv_in.weight") == (320, 9, 3, 3)
    whole = key_list("CompVis__stable-diffusion-v1-4.unet")
    assert ours == {name: shape for name, shape in whole.items() if name != "conv_in.weight"}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_networks_have_the_shapes_of_their_diffusers_classes(name: str) -> None:
    config = paper_config(name)
    with meta_device():
        theirs = reference(config)
    assert shapes(on_meta(config)) == shapes(theirs)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_networks_compute_what_diffusers_computes(name: str) -> None:
    config = small_paper_config(name)
    theirs = randomised(reference(config))
    ours = UNet(UNetConfig.from_dict(config)).eval()
    ours.load_state_dict(theirs.state_dict())
    x, timestep = seeded(2, config["in_channels"], 16, 32), torch.tensor([1.0, 981.0])
    rest = [] if ours.config.is_unconditional else [seeded(2, 7, 48)]
    with torch.no_grad():
        assert relative_error(ours(x, timestep, *rest), theirs(x, timestep, *rest).sample) < (
            TOLERANCE
        )


@pytest.mark.parametrize("change", [{}, {"resnet_time_scale_shift": "scale_shift"}])
def test_refiner_has_five_time_ids(change: dict[str, Any]) -> None:
    config = small_unet(REFINER) | {"projection_class_embeddings_input_dim": 48 + 5 * 32} | change
    theirs = randomised(diffusers.UNet2DConditionModel.from_config(config).eval())
    ours = UNet(UNetConfig.from_dict(config)).eval()
    ours.load_state_dict(theirs.state_dict())
    x, timestep, context = seeded(2, 4, 16, 16), torch.tensor([1.0, 500.0]), seeded(2, 77, 48)
    pooled, ids = seeded(2, 48), torch.tensor([[1024.0, 768, 0, 8, 6.0], [512, 512, 0, 0, 2.5]])
    with torch.no_grad():
        expected = theirs(
            x, timestep, context, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}
        ).sample
        got = ours(x, timestep, context, AddedConditioning(pooled, ids))
    assert relative_error(got, expected) < TOLERANCE


@pytest.mark.parametrize(
    ("config", "pooled", "ids"), [(SDXL, 1280, 6), (REFINER, 1280, 5), (SD15, None, 0)]
)
def test_number_of_time_ids_follows_from_the_widths(
    config: str, pooled: int | None, ids: int
) -> None:
    read = UNetConfig.from_dict(published(config, "unet/config.json"))
    assert (read.pooled_dim, read.time_ids) == (pooled, ids)


@pytest.mark.parametrize("name", ["inpainting_big", "cin256-v2", "refiner"])
def test_example_inputs_suit_the_network(name: str) -> None:
    if name == "refiner":
        five = {"projection_class_embeddings_input_dim": 48 + 5 * 32}
        config = small_unet(REFINER) | five
    else:
        config = small_paper_config(name)
    unet = UNet(UNetConfig.from_dict(config)).eval()
    network = base.denoiser(unet)
    inputs = network.examples(3)
    assert len(inputs) == len(network.free)
    out = Eager(network, same_bytes=True)(*inputs)
    assert out.shape == (3, unet.config.out_channels, 16, 16)


def test_missing_or_unexpected_context_is_refused() -> None:
    x, timestep = seeded(1, 3, 16, 16), torch.tensor([1.0])
    without = UNet(UNetConfig.from_dict(small_paper_config("celeba256/ffhq256/lsun_beds256")))
    with pytest.raises(ValueError, match="no context"):
        without(x, timestep, seeded(1, 7, 48))
    with pytest.raises(ValueError, match="a context"):
        UNet(UNetConfig.from_dict(small_paper_config("cin256-v2")))(x, timestep)


@pytest.mark.parametrize(
    "change",
    [
        {"time_embedding_type": "fourier"},
        {"class_embed_type": "timestep"},
        {"num_class_embeds": 1000},
        {"downsample_padding": 0},
        {"mid_block_type": "None"},
        {"cross_attention_dim": 768},
        {"down_block_types": ["CrossAttnDownBlock2D"] * 4},
        {"up_block_types": ["AttnDownBlock2D"] * 4},
        {"down_block_types": ["AttnDownBlock2D"]},
        {"attention_head_dim": [8, 8, 8, 8]},
        {"resnet_time_scale_shift": "scale_shift"},
        {"resnet_time_scale_shift": "spatial"},
        {"upsample_type": "fir"},
        {"_class_name": "UNet3DConditionModel"},
    ],
)
def test_unsupported_options_are_refused(change: dict[str, Any]) -> None:
    config = {"_class_name": "UNet2DModel", "sample_size": 64}
    assert UNetConfig.from_dict(config).is_unconditional
    with pytest.raises(UnsupportedConfig):
        UNetConfig.from_dict(config | change)


def test_options_of_the_unconditional_class_are_refused_for_the_conditional() -> None:
    with pytest.raises(UnsupportedConfig, match="downsample_type"):
        UNetConfig.from_dict({"_class_name": "UNet2DConditionModel", "downsample_type": "resnet"})
    with pytest.raises(UnsupportedConfig, match="attention_head_dim"):
        UNetConfig.from_dict({"attention_head_dim": None})


@pytest.mark.parametrize("name", PAPER)
def test_configurations_survive_json(name: str) -> None:
    config = UNetConfig.from_dict(paper_config(name))
    written = json.loads(json.dumps(config.to_dict()))
    assert UNetConfig.from_dict(written) == config


@pytest.mark.parametrize(
    ("name", "tokens"), [("lsun_churches256", 0), ("cin256-v2", 1), ("cin256-v2", 2)]
)
def test_row_has_the_same_bits_in_any_batch(name: str, tokens: int) -> None:
    """Including maps of one pixel, and contexts of a single class."""
    network = base.denoiser(UNet(UNetConfig.from_dict(small_paper_config(name))).eval())
    inputs = [t[:, :tokens] if t.ndim == 3 else t for t in network.examples(9)]
    run = Eager(network, same_bytes=True)
    for place in (0, 4, 8):
        alone = run(*(t[place : place + 1].contiguous() for t in inputs))
        for rows in (2, 3, 4, 9):
            order = [(place + i) % 9 for i in range(rows)]
            together = run(*(t[order].contiguous() for t in inputs))
            assert torch.equal(alone[0], together[0]), (place, rows)
