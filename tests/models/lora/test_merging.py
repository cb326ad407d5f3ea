"""Merged weights compared with diffusers and PEFT, and the layers that variants share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import peft
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.conditioners.textual_inversion import with_embeddings
from models.denoising.sampling_params import SamplingParams
from models.lora.factors import Factors
from models.lora.merging import _sum, layers_of, networks, with_loras
from models.lora.names import TEXT, UNET
from models.lora.reading import LoRA, read_lora
from models.pipeline import LatentDiffusion
from tests.models.lora import spellings
from tests.models.lora.spellings import Pairs
from tests.support.tiny_models import CONTEXT

TOLERANCE = 1e-5


def weights(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters())


def assert_equal(ours: nn.Module, theirs: nn.Module, names: str = "{}") -> None:
    expected = {names.format(name): p for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=TOLERANCE, atol=TOLERANCE)


def fused(folder: Path, files: Sequence[Path], strengths: Sequence[Any]) -> Any:
    """Return the diffusers pipeline with these LoRAs fused into its weights."""
    name = "StableDiffusionXLPipeline" if (folder / "tokenizer_2").exists() else None
    kind = getattr(diffusers, name or "StableDiffusionPipeline")
    options = {} if name else {"safety_checker": None, "feature_extractor": None}
    pipeline = kind.from_pretrained(folder, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT, for several adapters at once
        for file in files:
            pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=file.stem)
    pipeline.set_adapters([file.stem for file in files], list(strengths))
    pipeline.fuse_lora(adapter_names=[file.stem for file in files])
    pipeline.unload_lora_weights()
    return pipeline


def trained_layers(model: LatentDiffusion) -> list[tuple[str, str]]:
    """Return the layers that kohya's trainer changes: transformers, projections, convolutions."""
    kinds = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "net.0.proj", "net.2",
             "conv1", "conv2", "conv_shortcut", "0.conv", "q_proj", "k_proj", "v_proj",
             "out_proj", "fc1", "fc2")  # fmt: skip
    return [layer for layer in layers_of(model).shapes if layer[1].endswith(kinds)]


STRENGTHS = {"first": 0.8, "second": -0.6, "third": 1.7}


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_several_loras_of_different_trainers_are_merged_as_diffusers_does(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model: LatentDiffusion = request.getfixturevalue(f"tiny_{family}")
    folder: Path = request.getfixturevalue(f"tiny_{family}_folder")
    layers = layers_of(model)
    trained = trained_layers(model)
    assert {len(layers.shapes[layer]) for layer in trained} == {2, 4}
    first = spellings.random_pairs(layers, trained, rank=4, seed=1)
    second = spellings.random_pairs(layers, spellings.attention_of(layers), rank=2, seed=2)
    in_unet = [layer for layer in trained if layer[0] == UNET]
    third = spellings.random_pairs(layers, in_unet, rank=3, seed=3)
    two = family == "sdxl"
    files = [
        spellings.save(
            tmp_path / "first.safetensors", spellings.kohya(first, 2.0, two_encoders=two)
        ),
        spellings.save(tmp_path / "second.safetensors", spellings.diffusers(second)),
        spellings.save(tmp_path / "third.safetensors", spellings.peft(third)),
    ]
    theirs = fused(folder, files, list(STRENGTHS.values()))
    loras = [(read_lora(file, layers), STRENGTHS[file.stem]) for file in files]
    ours = with_loras(model, loras)
    for component, network in networks(ours).items():
        prefix = "text_model." if component == TEXT else ""  # transformers 5 leaves it out
        assert_equal(network, getattr(theirs, component), prefix + "{}")
    assert any(  # and the LoRAs do change something
        not torch.equal(a, b)
        for a, b in zip(model.unet.parameters(), ours.unet.parameters(), strict=True)
    )


def test_original_block_names_are_merged_as_diffusers_does(
    tiny_sdxl: LatentDiffusion, tiny_sdxl_folder: Path, tmp_path: Path
) -> None:
    layers = layers_of(tiny_sdxl)
    chosen = [layer for layer in trained_layers(tiny_sdxl) if layer[0] == UNET]
    pairs = spellings.random_pairs(layers, chosen)
    tensors = spellings.kohya_original(pairs, tiny_sdxl.unet.config, alpha=1.0)
    file = spellings.save(tmp_path / "sgm.safetensors", tensors)
    theirs = fused(tiny_sdxl_folder, [file], [1.25])
    assert_equal(with_loras(tiny_sdxl, [(read_lora(file, layers), 1.25)]).unet, theirs.unet)


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_peft_file_is_merged_as_peft_does(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, tmp_path: Path, rank_stabilised: bool
) -> None:
    unet = diffusers.UNet2DConditionModel.from_pretrained(tiny_sd_folder / "unet")
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["to_q", "to_out.0", "conv1", "proj_in"],
        alpha_pattern={} if rank_stabilised else {"to_q": 3},
        use_rslora=rank_stabilised,
    )
    theirs = peft.get_peft_model(unet, config)
    torch.manual_seed(4)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(str(tmp_path))
    layers = layers_of(tiny_sd)
    lora = read_lora(tmp_path / "adapter_model.safetensors", layers)
    assert_equal(with_loras(tiny_sd, [(lora, 1.0)]).unet, theirs.merge_and_unload())


def test_save_lora_adapter_file_is_merged_as_diffusers_does(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, tmp_path: Path
) -> None:
    """Its keys have no prefix, and its configuration has none either."""
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tiny_sd_folder / "unet")
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["to_q", "to_out.0", "conv1"])
    theirs.add_adapter(config)
    torch.manual_seed(5)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.1)
    theirs.save_lora_adapter(str(tmp_path))
    theirs.fuse_lora()
    theirs.unload_lora()
    file = tmp_path / "pytorch_lora_weights.safetensors"
    merged = with_loras(tiny_sd, [(read_lora(file, layers_of(tiny_sd)), 1.0)])
    assert_equal(merged.unet, theirs)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_comfyuis_file_of_every_weight_gives_the_fine_tuned_model(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A file of ComfyUI is the difference of two models; merged, it gives the second again."""
    model: LatentDiffusion = request.getfixturevalue(f"tiny_{family}")
    layers = layers_of(model)
    pairs = spellings.random_pairs(layers, layers.shapes, rank=2)
    vectors = {name: 0.1 * torch.randn(shape) for name, shape in layers.vectors.items()}
    tensors = spellings.comfy_saved(pairs, vectors, model.unet.config)
    file = spellings.save(tmp_path / "saved.safetensors", tensors)
    merged = with_loras(model, [(read_lora(file, layers), 0.5)])
    for component, network in networks(model).items():
        tuned = dict(networks(merged)[component].named_parameters())
        for name, parameter in network.named_parameters():
            if (component, name) in vectors:
                difference = vectors[component, name]
            else:
                down, up = pairs[component, name.removesuffix(".weight")]
                difference = torch.einsum("or,r...->o...", up.flatten(1), down)
            torch.testing.assert_close(tuned[name], parameter + 0.5 * difference)


def test_rows_of_embeddings_are_kept_when_the_vocabulary_is_changed(
    tiny_sd: LatentDiffusion, tmp_path: Path
) -> None:
    save_file({"emb_params": torch.ones(2, CONTEXT)}, tmp_path / "my-cat.safetensors")
    model = replace(tiny_sd, conditioner=with_embeddings(tiny_sd.conditioner, tmp_path))
    layers = layers_of(model)
    assert layers.digest == layers_of(tiny_sd).digest  # a file fits both or none
    layer = (TEXT, "text_model.embeddings.token_embedding")
    down, up = spellings.random_pairs(layers, [layer])[layer]
    merged = with_loras(model, [(made("words", {layer: (down, up)}), 1.0)])
    before, after = (
        networks(each)[TEXT].get_parameter(f"{layer[1]}.weight") for each in (model, merged)
    )
    torch.testing.assert_close(after[:-2], before[:-2] + up @ down)
    assert after[-2:].equal(before[-2:])


def lora(model: LatentDiffusion, *endings: str, seed: int = 0) -> LoRA:
    layers = layers_of(model)
    chosen = [layer for layer in layers.shapes if layer[1].endswith(endings)]
    return made(f"lora{seed}", spellings.random_pairs(layers, chosen, seed=seed))


def made(name: str, pairs: Pairs) -> LoRA:
    changes = {
        (component, f"{path}.weight"): Factors(down, up, 1.0)
        for (component, path), (down, up) in pairs.items()
    }
    return LoRA(name, changes)


def test_variant_shares_every_unchanged_layer(tiny_sd: LatentDiffusion) -> None:
    one = lora(tiny_sd, "attn1.to_q", "conv1")
    before = {name: p.clone() for name, p in weights(tiny_sd.unet).items()}
    variant = with_loras(tiny_sd, [(one, 1.0)])
    for name, parameter in weights(variant.unet).items():
        changed = (UNET, name) in one.changes
        assert (parameter.data_ptr() == tiny_sd.unet.get_parameter(name).data_ptr()) is not changed
        assert parameter.stride() == before[name].stride()  # channels-last for convolutions
    assert variant.autoencoder is tiny_sd.autoencoder
    assert variant.conditioner is tiny_sd.conditioner  # with its cache of prompts
    assert variant.executors.decoder is tiny_sd.executors.decoder
    assert variant.number != tiny_sd.number
    assert all(torch.equal(p, before[name]) for name, p in weights(tiny_sd.unet).items())


def test_variant_with_a_changed_text_encoder_encodes_its_own_prompts(
    tiny_sd: LatentDiffusion,
) -> None:
    variant = with_loras(tiny_sd, [(lora(tiny_sd, "q_proj", "mlp.fc1"), 1.0)])
    assert variant.unet is tiny_sd.unet
    assert variant.executors is tiny_sd.executors
    params = SamplingParams("the red cat")
    mine, theirs = (m.conditioner.positive(params).context for m in (variant, tiny_sd))
    assert mine is not None
    assert theirs is not None
    assert not torch.allclose(mine, theirs)


def test_strengths_add_up_and_zero_changes_nothing(tiny_sd: LatentDiffusion) -> None:
    one = lora(tiny_sd, "to_k")
    half = with_loras(tiny_sd, [(one, 0.5), (one, 0.75), (one, -0.25)])
    assert_equal(half.unet, with_loras(tiny_sd, [(one, 1.0)]).unet)
    assert_equal(with_loras(tiny_sd, [(one, 0.0)]).unet, tiny_sd.unet)


def test_half_precision_is_merged_in_single_precision(tiny_sd: LatentDiffusion) -> None:
    """Changes below the weight's last bit must add up before they are rounded."""
    layer = (UNET, "mid_block.attentions.0.proj_in")
    weight = tiny_sd.unet.get_parameter(f"{layer[1]}.weight")
    tiny = 2.0**-12 * torch.ones_like(weight[:, :1])
    half = torch.ones_like(weight).half()
    pairs = {layer: (torch.ones(1, weight.shape[1], 1, 1), tiny)}
    changes = [(change, 1.0) for change in made("tiny", pairs).changes.values()]
    one, many = _sum(half, changes), _sum(half, 8 * changes)
    assert one.dtype == torch.float16
    assert torch.equal(one, torch.ones_like(one))
    assert torch.equal(many, torch.full_like(many, 1 + 8 * 2.0**-12))
