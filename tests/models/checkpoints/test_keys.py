"""Key plans compared with published key lists: every key is used, and none is left over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.autoencoders.registry import build_first_stage
from models.checkpoints.detect.configs import first_stage_config
from models.checkpoints.detect.detected_file import detect_file
from models.checkpoints.detect.families import detect_family, families
from models.checkpoints.errors import UnknownFamily
from models.checkpoints.key_plan import KeyPlan, Shape, shapes_of
from models.checkpoints.keys.paddle import paddle_plan
from models.checkpoints.meta import meta_device
from models.networks.config import TextEncoderConfig, UNetConfig
from tests.models.checkpoints.networks import BUILDERS
from tests.models.checkpoints.published import FAMILIES, FIRST_STAGES, mapping, original
from tests.support.published import REFINER, SD15, SDXL, key_list, published


def network_shapes(component: str, config: dict[str, Any]) -> dict[str, Shape]:
    with meta_device():
        network = BUILDERS[component](config)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(("name", "family"), FAMILIES.items())
def test_every_key_of_a_published_file_is_used(name: str, family: str) -> None:
    """The family is detected, no key is left over, and the plans fit our networks."""
    file = detect_file(original(name))
    assert file.family.name == family
    assert file.unknown == ()
    for component, plan in file.plans.items():
        config = file.config(component, scaling_factor=1.0)
        assert network_shapes(component, config) == shapes_of(plan, file.shapes)


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_first_stage_files_of_the_paper(name: str) -> None:
    shapes = original(name)
    for trained_with in ("", "first_stage_model."):
        spelled = {trained_with + key: shape for key, shape in shapes.items()}
        # As in vae-ft-mse-840000-ema-pruned.ckpt, which has the counters of an average as well.
        training = {
            f"{trained_with}loss.discriminator.main.0.weight": (64, 3, 4, 4),
            "model_ema.decay": (),
            "model_ema.num_updates": (),
        }
        plan = detect_file(spelled | training).plan("vae")
        found = shapes_of(plan, spelled)
        assert network_shapes("vae", first_stage_config(found)) == found


@pytest.mark.parametrize(
    ("name", "mapped", "components"),
    [
        ("sd-v1-4.ckpt", "sd1", ("unet", "vae", "text_encoder")),
        ("sd_xl_base_1.0.safetensors", "sdxl-base", ("unet", "vae", "text_encoder")),
        ("sd_xl_base_1.0.safetensors", "sdxl-base", ("text_encoder_2",)),
        ("sd_xl_refiner_1.0.safetensors", "sdxl-refiner", ("unet", "vae", "text_encoder_2")),
    ],
)
def test_plans_equal_those_of_diffusers_converters(
    name: str, mapped: str, components: tuple[str, ...]
) -> None:
    file = detect_file(original(name))
    for component in components:
        assert source_keys(file.plans[component]) == mapping(f"{mapped}.{component}")


def source_keys(plan: KeyPlan) -> dict[str, str]:
    return {name: source.key for name, source in plan.items()}


def test_averaged_weights_are_used_where_they_are_complete() -> None:
    shapes = original("sd-v1-4-full-ema.ckpt")
    assert source_keys(detect_file(shapes).plans["unet"]) == mapping("sd1.unet_from_ema")
    del shapes["model_ema.diffusion_modelout2bias"]
    assert source_keys(detect_file(shapes).plans["unet"]) == mapping("sd1.unet")


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
def test_configurations_equal_the_published_ones(name: str, model: str, part: str) -> None:
    file = detect_file(original(name))
    ours = file.config(part, file.family.scaling_factor)
    theirs = published(model, f"{part}/config.json")
    if part == "unet":
        assert comparable(UNetConfig.from_dict(ours)) == comparable(UNetConfig.from_dict(theirs))
    elif part == "vae":
        # Published files of Stable Diffusion 1.x leave values out: the parsed ones are compared.
        assert build_on_meta(ours).config == build_on_meta(theirs).config
    else:
        assert TextEncoderConfig.from_dict(ours) == TextEncoderConfig.from_dict(theirs)


@pytest.mark.parametrize("model", [SD15, SDXL, REFINER])
@pytest.mark.parametrize("guidance", [None, 256])
def test_unet_in_a_file_of_its_own_is_detected(model: str, guidance: int | None) -> None:
    """As sdxl_lightning_4step_unet.safetensors, or LCM's, which is conditioned on guidance."""
    shapes = key_list(f"{model}.unet" if model != SD15 else "CompVis__stable-diffusion-v1-4.unet")
    if guidance:
        shapes |= {"time_embedding.cond_proj.weight": (shapes["conv_in.weight"][0], guidance)}
    file = detect_file(shapes)
    assert file.kind == "unet"
    ours = UNetConfig.from_dict(file.config("unet"))
    theirs = UNetConfig.from_dict(published(model, "unet/config.json"))
    assert comparable(ours) == comparable(replace(theirs, time_cond_proj_dim=guidance))
    assert network_shapes("unet", ours.to_dict()) == file.parameters("unet")


def comparable(config: UNetConfig) -> dict[str, Any]:
    """Return the effective configuration of a UNet; a level without attention has no depth."""
    attends = [kind.startswith("CrossAttn") for kind in config.down_block_types]
    attends[-1] = True  # the middle has the depth of the last level
    depths = [config.encoder_depths(level) for level, does in enumerate(attends) if does]
    settings = config.to_dict() | {"heads": config.heads, "depths": depths}
    unused = ("attention_head_dim", "num_attention_heads", "transformer_layers_per_block")
    return {key: value for key, value in settings.items() if key not in unused}


def build_on_meta(config: dict[str, Any]) -> Any:
    with meta_device():
        return build_first_stage(config)


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_paddle_files_of_riffusion(part: str) -> None:
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
def test_older_and_newer_names_in_the_diffusers_layout(variant: str, part: str, today: str) -> None:
    file = detect_file(key_list(f"variants/{variant}"))
    assert file.parameters(part) == key_list(today)


def test_pruned_files_of_civitai() -> None:
    """The text encoder has no `text_model`, and junk keys are reported."""
    shapes = {
        key.replace("transformer.text_model.", "transformer."): shape
        for key, shape in original("sd-v1-4.ckpt").items()
        if not key.startswith(("model_ema", "alphas", "sqrt", "log_", "posterior", "betas"))
    }
    file = detect_file(shapes)
    assert file.unknown == ()
    assert set(file.plans["text_encoder"]) == set(mapping("sd1.text_encoder"))
    junk = shapes | {"embedding_manager.embedder.weight": (1,), "model.diffusion_model.extra": (2,)}
    assert detect_file(junk).unknown == (
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
def test_clip_keys_for_images_are_unused(name: str, prefix: str) -> None:
    """Programs that split checkpoints and write them again write these keys too."""
    shapes = original(name)
    more = {
        f"{prefix}transformer.text_projection.weight": (768, 768),
        f"{prefix}logit_scale": (),
        f"{prefix}transformer.text_model.embeddings.position_ids": (1, 77),
    }
    file, plain = (detect_file(each) for each in (shapes | more, shapes))
    assert file.unknown == ()
    assert set(file.plans["text_encoder"]) == set(plain.plans["text_encoder"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 1152}, "a context of width 1152"),
        ({"in_channels": 5}, "5 channels in"),
        ({"width": 128}, "128 channels wide"),
    ],
)
def test_unknown_family_is_refused_with_a_list_of_the_known_ones(
    change: dict[str, int], message: str
) -> None:
    given = {"in_channels": 4, "width": 320, "context": 768} | change
    unet = "model.diffusion_model.input_blocks"
    shapes = {
        f"{unet}.0.0.weight": (given["width"], given["in_channels"], 3, 3),
        f"{unet}.1.1.transformer_blocks.0.attn2.to_k.weight": (320, given["context"]),
    }
    with pytest.raises(UnknownFamily, match=message) as refused:
        detect_family(shapes)
    assert all(family.title in str(refused.value) for family in families())


def test_file_without_a_unet_is_refused_by_its_missing_key() -> None:
    with pytest.raises(UnknownFamily, match=r"model\.diffusion_model\.input_blocks.*begins with a"):
        detect_family({"a": (1,)})


def test_signatures_of_families_are_unique() -> None:
    found = {(family.signature, family.marks) for family in families()}
    assert len(found) == len(families())


def test_blocks_out_of_order_are_refused() -> None:
    shapes = original("sd-v1-4.ckpt")
    broken = {key: shape for key, shape in shapes.items() if ".input_blocks.7." not in key}
    with pytest.raises(UnknownFamily, match="11 blocks down"):
        detect_file(broken).plan("unet")
