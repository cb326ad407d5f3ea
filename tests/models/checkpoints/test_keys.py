"""The key maps against published key lists: every key finds its place, and none is left over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from models.autoencoders.registry import build_first_stage
from models.checkpoints.detect.configs import component_config, config_alone, first_stage_config
from models.checkpoints.detect.families import detect, families
from models.checkpoints.detect.kinds import kind_of
from models.checkpoints.detect.original import take_apart
from models.checkpoints.detect.spelling import component_plan
from models.checkpoints.errors import UnknownFamily
from models.checkpoints.keys.paddle import paddle_plan
from models.checkpoints.parts import Shape, shapes_of
from models.networks.config import TextEncoderConfig, UNetConfig
from tests.models.checkpoints.networks import BUILDERS
from tests.models.checkpoints.published import FAMILIES, FIRST_STAGES, mapping, original
from tests.support.published import REFINER, SD15, SDXL, key_list, published


def network_shapes(part: str, config: dict[str, Any]) -> dict[str, Shape]:
    with torch.device("meta"):
        network = BUILDERS[part](config)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(("name", "family"), FAMILIES.items())
def test_every_key_of_a_published_file_finds_its_place(name: str, family: str) -> None:
    """The family is told, nothing is left over, and our networks want just what is there."""
    shapes = original(name)
    told = detect(shapes)
    contents = take_apart(shapes, told)
    assert told.name == family
    assert contents.unknown == ()
    for part, plan in contents.components.items():
        found = shapes_of(plan, shapes)
        config = component_config(part, found, told, scaling_factor=1.0)
        assert network_shapes(part, config) == found


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_first_stages_of_the_paper_alone(name: str) -> None:
    shapes = original(name)
    for trained_with in ("", "first_stage_model."):
        spelled = {trained_with + key: shape for key, shape in shapes.items()}
        # As in vae-ft-mse-840000-ema-pruned.ckpt, which has the counters of an average as well.
        training = {
            f"{trained_with}loss.discriminator.main.0.weight": (64, 3, 4, 4),
            "model_ema.decay": (),
            "model_ema.num_updates": (),
        }
        plan = component_plan("vae", spelled | training)
        found = shapes_of(plan, spelled)
        assert network_shapes("vae", first_stage_config(found)) == found


@pytest.mark.parametrize(
    ("name", "mapped", "parts"),
    [
        ("sd-v1-4.ckpt", "sd1", ("unet", "vae", "text_encoder")),
        ("sd_xl_base_1.0.safetensors", "sdxl-base", ("unet", "vae", "text_encoder")),
        ("sd_xl_base_1.0.safetensors", "sdxl-base", ("text_encoder_2",)),
        ("sd_xl_refiner_1.0.safetensors", "sdxl-refiner", ("unet", "vae", "text_encoder_2")),
    ],
)
def test_the_maps_are_those_of_diffusers_converters(
    name: str, mapped: str, parts: tuple[str, ...]
) -> None:
    shapes = original(name)
    contents = take_apart(shapes, detect(shapes))
    for part in parts:
        ours = {key: where.key for key, where in contents.components[part].items()}
        assert ours == mapping(f"{mapped}.{part}")


def test_averaged_weights_are_taken_where_they_are_complete() -> None:
    shapes = original("sd-v1-4-full-ema.ckpt")
    family = detect(shapes)
    ours = {key: p.key for key, p in take_apart(shapes, family).components["unet"].items()}
    assert ours == mapping("sd1.unet_from_ema")
    del shapes["model_ema.diffusion_modelout2bias"]
    ours = {key: p.key for key, p in take_apart(shapes, family).components["unet"].items()}
    assert ours == mapping("sd1.unet")


@pytest.mark.parametrize(
    ("name", "model", "part"),
    [
        ("sd-v1-4.ckpt", SD15, "unet"),
        ("sd_xl_base_1.0.safetensors", SDXL, "unet"),
        ("sd_xl_refiner_1.0.safetensors", REFINER, "unet"),
        ("sd-v1-4.ckpt", SD15, "text_encoder"),
        ("sd_xl_base_1.0.safetensors", SDXL, "text_encoder"),
        ("sd_xl_base_1.0.safetensors", SDXL, "text_encoder_2"),
        ("sd-v1-4.ckpt", SD15, "vae"),
        ("sd_xl_base_1.0.safetensors", SDXL, "vae"),
        ("sd_xl_refiner_1.0.safetensors", REFINER, "vae"),
    ],
)
def test_configurations_say_what_the_published_ones_say(name: str, model: str, part: str) -> None:
    shapes = original(name)
    family = detect(shapes)
    found = shapes_of(take_apart(shapes, family).components[part], shapes)
    ours = component_config(part, found, family, family.scaling_factor)
    theirs = published(model, f"{part}/config.json")
    if part == "unet":
        assert comparable(UNetConfig.from_dict(ours)) == comparable(UNetConfig.from_dict(theirs))
    elif part == "vae":
        # Published files of Stable Diffusion 1.x leave it out: what is read is what counts.
        assert build_on_meta(ours).config == build_on_meta(theirs).config
    else:
        assert TextEncoderConfig.from_dict(ours) == TextEncoderConfig.from_dict(theirs)


@pytest.mark.parametrize("model", [SD15, SDXL, REFINER])
@pytest.mark.parametrize("told", [None, 256])
def test_a_unet_alone_says_what_it_is(model: str, told: int | None) -> None:
    """As sdxl_lightning_4step_unet.safetensors, or LCM's, which are told their guidance."""
    shapes = key_list(f"{model}.unet" if model != SD15 else "CompVis__stable-diffusion-v1-4.unet")
    if told:
        shapes |= {"time_embedding.cond_proj.weight": (shapes["conv_in.weight"][0], told)}
    assert kind_of(shapes) == "unet"
    found = shapes_of(component_plan("unet", shapes), shapes)
    ours = UNetConfig.from_dict(config_alone("unet", found))
    theirs = UNetConfig.from_dict(published(model, "unet/config.json"))
    assert comparable(ours) == comparable(replace(theirs, time_cond_proj_dim=told))
    assert network_shapes("unet", ours.to_dict()) == found


def comparable(config: UNetConfig) -> dict[str, Any]:
    """What a UNet's configuration comes to; a level without attention has no depth."""
    attends = [kind.startswith("CrossAttn") for kind in config.down_block_types]
    attends[-1] = True  # the middle has that of the last level
    depths = [depth for depth, does in zip(config.transformer_depth, attends, strict=True) if does]
    said = config.to_dict() | {"heads": config.heads, "depths": depths}
    ways = ("attention_head_dim", "num_attention_heads", "transformer_layers_per_block")
    return {key: value for key, value in said.items() if key not in ways}


def build_on_meta(config: dict[str, Any]) -> Any:
    with torch.device("meta"):
        return build_first_stage(config)


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_paddles_rendering_of_riffusion(part: str) -> None:
    shapes = key_list(f"jm12138__riffusion-model-v1.{part}.paddle")
    ours = key_list(f"riffusion__riffusion-model-v1.{part}")
    ours.pop("text_model.embeddings.position_ids", None)
    assert shapes_of(paddle_plan(shapes), shapes) == ours


@pytest.mark.parametrize(
    ("variant", "part", "today"),
    [
        ("SD1.vae.legacy-attention-names", "vae", f"{SD15}.vae"),
        ("celebahq.unet.legacy-attention-names", "unet", "CompVis__ldm-celebahq-256.unet"),
        ("celebahq.vqvae.legacy-attention-names", "vqvae", "CompVis__ldm-celebahq-256.vqvae"),
        ("CLIP-L.text_encoder.transformers-5-in-memory", "text_encoder", f"{SDXL}.text_encoder"),
        (
            "CLIP-bigG.text_encoder_2.transformers-5-in-memory",
            "text_encoder_2",
            f"{SDXL}.text_encoder_2",
        ),
    ],
)
def test_older_and_newer_spellings_of_the_diffusers_layout(
    variant: str, part: str, today: str
) -> None:
    shapes = key_list(f"variants/{variant}")
    assert shapes_of(component_plan(part, shapes), shapes) == key_list(today)


def test_old_files_of_civitai() -> None:
    """Pruned, their text encoder without `text_model`, and a junk key that must not pass."""
    shapes = {
        key.replace("transformer.text_model.", "transformer."): shape
        for key, shape in original("sd-v1-4.ckpt").items()
        if not key.startswith(("model_ema", "alphas", "sqrt", "log_", "posterior", "betas"))
    }
    contents = take_apart(shapes, detect(shapes))
    assert contents.unknown == ()
    assert set(contents.components["text_encoder"]) == set(mapping("sd1.text_encoder"))
    junk = shapes | {"embedding_manager.embedder.weight": (1,), "model.diffusion_model.extra": (2,)}
    assert take_apart(junk, detect(junk)).unknown == (
        "embedding_manager.embedder.weight",
        "model.diffusion_model.extra",
    )


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("sd-v1-4.ckpt", "cond_stage_model."),
        ("sd_xl_base_1.0.safetensors", "conditioner.embedders.0."),
    ],
)
def test_what_clip_has_for_pictures_is_left_out(name: str, prefix: str) -> None:
    """Programs that take checkpoints apart and write them anew write it, too."""
    shapes = original(name)
    more = {
        f"{prefix}transformer.text_projection.weight": (768, 768),
        f"{prefix}logit_scale": (),
        f"{prefix}transformer.text_model.embeddings.position_ids": (1, 77),
    }
    contents, plain = (take_apart(s, detect(s)) for s in (shapes | more, shapes))
    assert contents.unknown == ()
    assert set(contents.components["text_encoder"]) == set(plain.components["text_encoder"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"context": 1024}, "Stable Diffusion 2"),
        ({"in_channels": 5}, "5 channels in"),
        ({"width": 128}, "128 channels wide"),
    ],
)
def test_what_is_no_known_family_is_refused_saying_what_was_looked_for(
    change: dict[str, int], said: str
) -> None:
    given = {"in_channels": 4, "width": 320, "context": 768} | change
    unet = "model.diffusion_model.input_blocks"
    shapes = {
        f"{unet}.0.0.weight": (given["width"], given["in_channels"], 3, 3),
        f"{unet}.1.1.transformer_blocks.0.attn2.to_k.weight": (320, given["context"]),
    }
    with pytest.raises(UnknownFamily, match=said) as refused:
        detect(shapes)
    assert all(family.title in str(refused.value) for family in families())


def test_a_file_of_something_else_is_refused_by_what_it_lacks() -> None:
    with pytest.raises(UnknownFamily, match=r"model\.diffusion_model\.input_blocks.*begins with a"):
        detect({"a": (1,)})


def test_families_are_told_apart() -> None:
    assert len({family.signature for family in families()}) == len(families())


def test_blocks_out_of_order_are_refused() -> None:
    shapes = original("sd-v1-4.ckpt")
    broken = {key: shape for key, shape in shapes.items() if ".input_blocks.7." not in key}
    with pytest.raises(UnknownFamily, match="11 blocks down"):
        take_apart(broken, detect(broken))
