"""Every kind of change, merged, equals the outputs of LyCORIS' and PEFT's own layers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import peft
import pytest
import torch
from torch import Tensor, nn

from models.lora.layers import Layer
from models.lora.merging import layers_of, networks, with_loras
from models.lora.names import TEXT, UNET
from models.lora.reading import LoRA, read_lora
from models.pipeline import LatentDiffusion
from tests.models.lora import spellings
from tests.models.lora.lycoris_oracle import KINDS, change, output, tensors
from tests.models.lora.test_merging import assert_equal

BLOCK = "mid_block.attentions.0.transformer_blocks.0"
LAYERS: tuple[Layer, ...] = (
    (UNET, f"{BLOCK}.attn1.to_q"),
    (UNET, f"{BLOCK}.attn2.to_k"),  # of another width than it is high
    (UNET, f"{BLOCK}.ff.net.0.proj"),  # with a bias
    (UNET, f"{BLOCK}.norm1"),
    (UNET, "mid_block.resnets.0.norm1"),
    (UNET, "mid_block.attentions.0.proj_in"),  # a 1×1 convolution
    (UNET, "mid_block.resnets.0.conv1"),
    (UNET, "up_blocks.1.resnets.0.conv1"),
    (UNET, "down_blocks.0.downsamplers.0.conv"),
    (TEXT, "text_model.encoder.layers.0.mlp.fc1"),
)
STRENGTHS = (1.0, -0.7, 0.0)
# All forms run in `make test-all`; these also in `make test`.
SAMPLE = {"LoHa", "LoKr, both of low rank", "full difference", "DoRA of rows", "LoKr with core",
          "rank and alpha patterns", "biases of the model", "LoKr, whole"}  # fmt: skip


def sampled(names: Iterable[str]) -> list[Any]:
    return [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.long) for n in names]


def plain(module: nn.Module) -> nn.Module:
    """Return a copy of a layer of ours as torch's own class, which LyCORIS knows."""
    twin = copy.deepcopy(module)
    kinds = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm)
    twin.__class__ = next(kind for kind in kinds if isinstance(module, kind))
    return twin


def layer_of(model: LatentDiffusion, layer: Layer) -> nn.Module:
    return networks(model)[layer[0]].get_submodule(layer[1])


def changes_of(model: LatentDiffusion, kind: str, seed: int = 0) -> dict[Layer, nn.Module]:
    return {
        layer: change(kind, plain(layer_of(model, layer)), seed + number)
        for number, layer in enumerate(LAYERS)
    }


def written(changes: Mapping[Layer, nn.Module], file: Path) -> Path:
    prefixes = {UNET: "lora_unet_", TEXT: "lora_te_"}
    found: dict[str, Tensor] = {}
    for (component, path), one in changes.items():
        found |= tensors(one, prefixes[component] + path.replace(".", "_"))
    return spellings.save(file, found)


def input_of(module: nn.Module) -> Tensor:
    """Return a random input of a layer."""
    torch.manual_seed(7)
    if isinstance(module, nn.Conv2d):
        return torch.randn(2, module.in_channels, 6, 6)
    if isinstance(module, nn.GroupNorm):
        return torch.randn(2, module.num_channels, 6, 6)
    width = module.normalized_shape[0] if isinstance(module, nn.LayerNorm) else module.in_features
    assert isinstance(width, int)
    return torch.randn(5, width)


@torch.no_grad()
def run(module: nn.Module, x: Tensor) -> Tensor:
    result = plain(module)(x)
    assert isinstance(result, Tensor)
    return result


def lora_of(model: LatentDiffusion, changes: Mapping[Layer, nn.Module], file: Path) -> LoRA:
    return read_lora(written(changes, file), layers_of(model))


@pytest.mark.parametrize("kind", sampled(KINDS))
def test_change_equals_the_layers_of_lycoris(
    tiny_sd: LatentDiffusion, tmp_path: Path, kind: str
) -> None:
    changes = changes_of(tiny_sd, kind)
    lora = lora_of(tiny_sd, changes, tmp_path / "one.safetensors")
    for strength in STRENGTHS:
        merged = with_loras(tiny_sd, [(lora, strength)])
        for layer, theirs in changes.items():
            before, after = (layer_of(model, layer) for model in (tiny_sd, merged))
            x = input_of(before)
            if "DoRA" in kind:  # other strengths blend with the unchanged layer
                unchanged, whole = run(before, x), output(theirs, x, 1.0)
                expected = unchanged + strength * (whole - unchanged)
            else:
                expected = output(theirs, x, strength)
            assert not expected.allclose(run(before, x)) or strength == 0
            torch.testing.assert_close(run(after, x), expected, rtol=1e-4, atol=1e-4)


def test_several_changes_of_one_layer_add_up(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    kinds = {"LoHa": 0.5, "LoKr": -1.0, "full difference": 0.8, "DoRA of rows": 1.2, "LoCon": 0.3}
    alone: dict[str, tuple[LoRA, float]] = {}
    for number, (kind, strength) in enumerate(kinds.items()):
        changes = changes_of(tiny_sd, kind, seed=100 * number)
        alone[kind] = lora_of(tiny_sd, changes, tmp_path / f"{number}.safetensors"), strength
    together = with_loras(tiny_sd, list(alone.values()))
    apart = [with_loras(tiny_sd, [each]) for each in alone.values()]
    for component, network in networks(tiny_sd).items():
        for name, before in network.named_parameters():
            of_each = [networks(model)[component].get_parameter(name) for model in apart]
            expected = before + sum(each - before for each in of_each)
            merged = networks(together)[component].get_parameter(name)
            torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)


TARGETS = ["to_q", "attn2.to_k", "to_out.0", "conv1", "proj_in"]
OF_PEFT: dict[str, Any] = {
    "rank and alpha patterns": peft.LoraConfig(
        r=4,
        lora_alpha=6,
        rank_pattern={"to_q": 2, "mid_block.resnets.0.conv1": 3},
        alpha_pattern={"attn2.to_k": 1},
        use_rslora=True,
    ),
    "DoRA": peft.LoraConfig(r=4, lora_alpha=6, use_dora=True),
    "bias of the change": peft.LoraConfig(r=4, lora_alpha=6, lora_bias=True),
    "biases of the model": peft.LoraConfig(r=4, lora_alpha=6, bias="all"),
    "LoHa": peft.LoHaConfig(r=3, alpha=5, alpha_pattern={"to_q": 2}),
    "LoHa with cores": peft.LoHaConfig(r=3, alpha=5, use_effective_conv2d=True),
    "LoKr": peft.LoKrConfig(r=2, alpha=3, decompose_both=True, decompose_factor=4),
    "LoKr with cores": peft.LoKrConfig(r=2, alpha=3, use_effective_conv2d=True),
    "LoKr, whole": peft.LoKrConfig(r=64, alpha=32, rank_pattern={"to_q": 2}),
}


@pytest.mark.parametrize("name", sampled(OF_PEFT))
def test_change_equals_the_merged_model_of_peft(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, tmp_path: Path, name: str
) -> None:
    unet = diffusers.UNet2DConditionModel.from_pretrained(tiny_sd_folder / "unet")
    config = copy.deepcopy(OF_PEFT[name])
    # Only layers with a bias can have one changed.
    config.target_modules = ["to_out.0", "conv1"] if "bias" in name else TARGETS
    theirs = peft.get_peft_model(unet, config)
    torch.manual_seed(4)
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT, for a bias that is no matrix
        theirs.save_pretrained(str(tmp_path))
    lora = read_lora(tmp_path / "adapter_model.safetensors", layers_of(tiny_sd))
    merged = with_loras(tiny_sd, [(lora, 1.0)])
    assert_equal(merged.unet, theirs.merge_and_unload())
    assert_equal(with_loras(tiny_sd, [(lora, 0.0)]).unet, tiny_sd.unet)
