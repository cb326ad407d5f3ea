"""Every spelling of a LoRA gives the same changes; unknown keys are refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.checkpoints.meta import meta_device
from models.lora.errors import LoraError
from models.lora.factors import Factors
from models.lora.layers import Layer, Layers
from models.lora.merging import layers_of
from models.lora.names import TEXT, TEXT_2, UNET
from models.lora.original_names import original_name
from models.lora.reading import LoRA, check_lora, read_lora
from models.networks.config import UNetConfig
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from tests.models.lora import spellings
from tests.models.lora.spellings import Pairs
from tests.support.published import REFINER, SD15, SDXL, key_list, published
from tests.support.shared_files import shared_file

Tensors = dict[str, Tensor]


def only(pairs: Pairs, component: str) -> Pairs:
    return {layer: pair for layer, pair in pairs.items() if layer[0] == component}


def change_of(lora: LoRA, layer: Layer) -> Factors:
    """Return the low-rank change of a layer."""
    change = lora.changes[layer[0], f"{layer[1]}.weight"]
    assert isinstance(change, Factors)
    return change


def assert_changes(lora: LoRA, pairs: Pairs, scale: float = 1.0) -> None:
    assert set(lora.changes) == {(component, f"{path}.weight") for component, path in pairs}
    for layer, (down, up) in pairs.items():
        factors = change_of(lora, layer)
        assert torch.equal(factors.down, down)
        assert torch.equal(factors.up, up)
        assert factors.scale == pytest.approx(scale)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_all_spellings_give_the_same_changes(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model: LatentDiffusion = request.getfixturevalue(f"tiny_{family}")
    layers, config = layers_of(model), model.unet.config
    attention = spellings.random_pairs(layers, spellings.attention_of(layers))
    everything = spellings.random_pairs(layers, layers.shapes, seed=1)
    files: list[tuple[Pairs, Tensors]] = [
        (everything, spellings.kohya(everything)),
        (everything, spellings.kohya(everything, two_encoders=True)),
        (only(everything, UNET), spellings.kohya_original(only(everything, UNET), config)),
        (only(everything, UNET), spellings.comfy(only(everything, UNET), config)),
        (everything, spellings.diffusers(everything)),
        (everything, spellings.diffusers(everything, text_model=False)),
        (attention, spellings.processors(attention)),
        (only(attention, UNET), spellings.processors(only(attention, UNET), prefix=False)),
        (everything, spellings.peft(everything)),
        (only(everything, UNET), spellings.peft(only(everything, UNET), bare=True)),
        (everything, spellings.comfy_saved(everything, {}, config)),
        (everything, spellings.one_trainer(everything, config)),
        (only(everything, UNET), spellings.prefixed(only(everything, UNET), "")),
        (
            only(everything, UNET),
            spellings.prefixed(only(everything, UNET), "unet.base_model.model."),
        ),
        (only(everything, UNET), spellings.prefixed(only(everything, UNET), "lycoris_", "_")),
        (everything, with_ending(spellings.peft(everything), ".my-adapter.weight")),
        (everything, with_ending(spellings.peft(everything), "")),
    ]
    for index, (pairs, tensors) in enumerate(files):
        file = spellings.save(tmp_path / f"{index}.safetensors", tensors)
        check_lora(file, layers)
        assert_changes(read_lora(file, layers), pairs)


def with_ending(tensors: Tensors, ending: str) -> Tensors:
    return {key.removesuffix(".weight") + ending: tensor for key, tensor in tensors.items()}


def test_only_layers_of_equal_encoders_share_a_name(
    tiny_sd: LatentDiffusion, tiny_sdxl: LatentDiffusion
) -> None:
    assert [name for name, layer in layers_of(tiny_sd).named.items() if layer is None] == []
    shared = [name for name, layer in layers_of(tiny_sdxl).named.items() if layer is None]
    assert shared
    # PEFT's keys for one network and the oldest processors do not name the component.
    assert all(name.startswith(("base_model.model.", "text_model.")) for name in shared)


@pytest.mark.parametrize(
    ("model", "mapping"), [(SD15, "sd1"), (SDXL, "sdxl-base"), (REFINER, "sdxl-refiner")]
)
def test_original_names_equal_those_of_published_files(model: str, mapping: str) -> None:
    config = UNetConfig.from_dict(published(model, "unet/config.json"))
    file = shared_file(f"facts/checkpoints/keys/mapping/{mapping}.unet.json")
    expected = json.loads(file.read_text("utf-8"))
    with meta_device():
        unet = UNet(config)
    layers = Layers.of({UNET: unet}, config)
    assert len(layers.shapes) == sum(len(shape) > 1 for shape in key_list(f"{model}.unet").values())
    norms = [path.removesuffix(".weight") for _, path in layers.vectors if path.endswith("weight")]
    assert len(layers.shapes) + len(layers.vectors) == len(expected)
    for path in (*(path for _, path in layers.shapes), *norms):
        key = expected[f"{path}.weight"]
        original = key if isinstance(key, str) else key[0]
        assert original == f"model.diffusion_model.{original_name(path, config)}.weight"


def test_scale_is_alpha_by_rank(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    layers = layers_of(tiny_sd)
    pairs = spellings.random_pairs(layers, spellings.attention_of(layers), rank=4)
    file = spellings.save(tmp_path / "a.safetensors", spellings.kohya(pairs, alpha=6.0))
    assert_changes(read_lora(file, layers), pairs, scale=1.5)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": 4, "lora_alpha": 2}, 0.5),
        ({"r": 4, "lora_alpha": 2, "use_rslora": True}, 1.0),
        ({"r": 4, "lora_alpha": 1, "alpha_pattern": {"to_q": 8.0}}, 2.0),
        ({"r": 4, "lora_alpha": 1, "alpha_pattern": {"^mid_block.attentions.0": 8.0}}, 0.25),
    ],
)
def test_pefts_alphas_are_read_from_the_header_or_the_config_file(
    tiny_sd: LatentDiffusion, tmp_path: Path, config: dict[str, object], scale: float
) -> None:
    layers = layers_of(tiny_sd)
    chosen = [layer for layer in layers.shapes if layer[0] == UNET and layer[1].endswith("to_q")]
    pairs = spellings.random_pairs(layers, chosen, rank=4)
    header = spellings.metadata(unet=config)
    file = spellings.save(tmp_path / "header.safetensors", spellings.peft(pairs), **header)
    assert_changes(read_lora(file, layers), pairs, scale)
    bare = spellings.peft(pairs, bare=True)
    file = spellings.save(tmp_path / "adapter_model.safetensors", bare)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert_changes(read_lora(file, layers), pairs, scale)


def test_linear_change_fits_a_1x1_convolution(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    layers = layers_of(tiny_sd)
    layer = (UNET, "mid_block.attentions.0.proj_in")
    assert layers.shapes[layer][2:] == (1, 1)
    down, up = spellings.random_pairs(layers, [layer])[layer]
    flat = {layer: (down[:, :, 0, 0], up[:, :, 0, 0])}
    lora = read_lora(spellings.save(tmp_path / "a.safetensors", spellings.kohya(flat)), layers)
    weight = torch.zeros(layers.shapes[layer])
    expected = (up[:, :, 0, 0] @ down[:, :, 0, 0])[:, :, None, None]
    torch.testing.assert_close(change_of(lora, layer).delta(weight), expected)


def test_change_of_a_convolution_in_three_factors(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    """ "use_cp" of LyCORIS: the change equals three convolutions in sequence."""
    layers = layers_of(tiny_sd)
    layer = (UNET, "mid_block.resnets.0.conv1")
    out, inside, *_ = layers.shapes[layer]
    down, mid, up = torch.randn(3, inside, 1, 1), torch.randn(3, 3, 3, 3), torch.randn(out, 3, 1, 1)
    name = "lora_unet_mid_block_resnets_0_conv1"
    tensors = {f"{name}.lora_{part}.weight": t for part, t in
               {"down": down, "mid": mid, "up": up}.items()}  # fmt: skip
    lora = read_lora(spellings.save(tmp_path / "a.safetensors", tensors), layers)
    delta = change_of(lora, layer).delta(torch.zeros(layers.shapes[layer]))
    x = torch.randn(1, inside, 5, 5)
    convolved = nn.functional.conv2d
    torch.testing.assert_close(
        convolved(x, delta, padding=1),
        convolved(convolved(convolved(x, down), mid, padding=1), up),
        rtol=1e-4,
        atol=1e-4,
    )


NORM = "lora_unet_mid_block_attentions_0_transformer_blocks_0_norm1"
LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


def lora_of(changes: dict[str, Tensor | None]) -> Tensors:
    """Return a valid change of one layer, with these keys added or removed."""
    tensors = {f"{LAYER}.lora_down.weight": torch.randn(2, 64),
               f"{LAYER}.lora_up.weight": torch.randn(64, 2)}  # fmt: skip
    return {key: t for key, t in {**tensors, **changes}.items() if t is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_unet_nowhere.lora_down.weight": torch.zeros(2, 2)}, "lora_unet_nowhere"),
        ({"lora_te2_text_model_x.alpha": torch.zeros(())}, "keys of no layer.*lora_te2_text"),
        ({"some.weight": torch.zeros(2)}, "keys of no layer of this model: some.weight"),
        ({f"{LAYER}.dora_scale": torch.ones(63, 1)}, r"lengths of DoRA that do not fit, \(63, 1\)"),
        ({f"{LAYER}.dora_scale": torch.ones(64, 64)}, "lengths of DoRA that do not fit"),
        ({f"{LAYER}.dora_scale": torch.ones(1, 1, 64)}, "lengths of DoRA that do not fit"),
        ({f"{LAYER}.dora_scale": torch.ones(64), f"{LAYER}.lora_magnitude_vector": torch.ones(64)},
         "lengths of DoRA that do not fit"),
        ({f"{LAYER}.hada_w1_a": torch.ones(64, 1)}, "changes of two kinds"),
        ({f"{LAYER}.lokr_w2": torch.ones(64, 1)}, "changes of two kinds"),
        ({f"{LAYER}.diff": torch.ones(64, 64)}, "changes of two kinds"),
        ({f"{LAYER}.oft_blocks": torch.ones(2, 2, 2)}, "OFT is not supported"),
        ({f"{LAYER}.on_input": torch.ones(1)}, "IA3 is not supported"),
        ({"unet.x.ia3_l.default": torch.ones(1)}, "IA3 is not supported"),
        ({f"{LAYER}.a1.weight": torch.ones(2, 2)}, "GLoRA is not supported"),
        ({f"{LAYER}.lambda_layer": torch.ones(2)}, "T-LoRA is not supported"),
        ({f"{LAYER}.diff_b": torch.ones(64)}, f"the layer has no bias: {LAYER}.diff_b"),
        ({f"{NORM}.diff": torch.ones(65)}, r"shapes that do not fit, \(65,\) for \(64,\)"),
        ({f"{NORM}.diff": torch.ones(64, 64)}, r"shapes that do not fit, \(64, 64\) for"),
        ({f"{NORM}.diff_b": torch.ones(64).int()}, "no floating-point"),
        ({f"{NORM}.lora_down.weight": torch.ones(2, 64)}, "low-rank changes of a norm"),
        ({f"{LAYER}.set_weight": torch.ones(64, 64)}, "a replacement of weights"),
        ({f"{LAYER}.lora_E": torch.ones(2, 1)}, "AdaLoRA"),
        ({"unet.x.hra_u.default": torch.ones(2, 2)}, "this method of PEFT"),
        ({"unet.x.lora_A.bias": torch.ones(64)}, "a LoRA with biases in this form"),
        ({f"{LAYER}.lora_B.bias": torch.ones(64)}, "the layer has no bias"),
        ({"bundle_emb.hat.string_to_param.*": torch.ones(2, 33)}, r"embedding hat: .*\(N, 32\)"),
        ({"bundle_emb.hat.clip_l": torch.ones(2, 32), "bundle_emb.hat.clip_g": torch.ones(2, 32)},
         "embedding hat: it is for SDXL"),
        ({"bundle_emb.re.string_to_param.*": torch.ones(2, 32)}, "embedding re: .* already has"),
        ({"bundle_emb.h(t.string_to_param.*": torch.ones(2, 32)}, "as syntax"),
        ({"bundle_emb.hat.string_to_param.*": torch.ones(76, 32)}, "holds 76 vectors"),
        ({"bundle_emb.hat.notes": torch.ones(2)}, "keys of no layer"),
        ({f"{LAYER}.lora_up.weight": None}, "without both factors"),
        ({f"{LAYER}.lora_up.weight": torch.ones(64, 3)}, "shapes that do not fit"),
        ({f"{LAYER}.lora_up.weight": torch.ones(32, 2)}, r"weight of \(64, 64\)"),
        ({f"{LAYER}.lora_down.weight": torch.ones(2, 64, 3, 3)}, "shapes that do not fit"),
        ({f"{LAYER}.alpha": torch.ones(2)}, "alphas that are no number"),
        ({f"{LAYER}.lora_down.weight": torch.ones(2, 64).int()}, "no floating-point"),
        ({f"unet.{'mid_block.attentions.0.transformer_blocks.0.attn1.to_q'}.lora_A.weight":
          torch.ones(2, 64)}, "changed twice"),
        ({f"{LAYER}.lora_down.weight": None, f"{LAYER}.lora_up.weight": None}, "no LoRA keys"),
    ],
)  # fmt: skip
def test_unknown_or_unsupported_keys_are_named(
    tiny_sd: LatentDiffusion, tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    file = spellings.save(tmp_path / "odd.safetensors", lora_of(changes), format="pt")
    for reader in (check_lora, read_lora):
        with pytest.raises(LoraError, match=message):
            reader(file, layers_of(tiny_sd))


def test_values_that_are_not_finite_are_refused(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    tensors = lora_of({f"{LAYER}.alpha": torch.tensor(float("nan"))})
    with pytest.raises(LoraError, match="not finite"):
        read_lora(spellings.save(tmp_path / "nan.safetensors", tensors), layers_of(tiny_sd))


def test_error_for_another_models_file_lists_some_keys(
    tiny_sd: LatentDiffusion, tiny_sdxl: LatentDiffusion, tmp_path: Path
) -> None:
    layers = layers_of(tiny_sdxl)
    tensors = spellings.kohya(spellings.random_pairs(layers, layers.shapes), two_encoders=True)
    file = spellings.save(tmp_path / "sdxl.safetensors", tensors)
    with pytest.raises(LoraError, match=r"LoRA sdxl does not fit: .* and \d+ more") as caught:
        check_lora(file, layers_of(tiny_sd))
    assert len(str(caught.value)) < 5000


def peft_file(folder: Path, layers: Layers, **config: object) -> Path:
    pairs = spellings.random_pairs(layers, [(UNET, "conv_in")])
    header = spellings.metadata(unet=config)
    return spellings.save(folder / "p.safetensors", spellings.peft(pairs), **header)


@pytest.mark.parametrize(
    "config",
    [
        {"fan_in_fan_out": True},
        {"use_qalora": True},
        {"init_lora_weights": "pissa_niter_4"},
        {"r": 0},
        {"rank_pattern": {"to_q": 0}},
        {"lora_alpha": float("nan")},
        {"lora_alpha": "much"},
        {"alpha_pattern": {"(a+)+$": 3}},
        {"alpha_pattern": {"to_q": None}},
        {"alpha_pattern": 5},
    ],
)
def test_unsupported_peft_configurations_are_refused(
    tiny_sd: LatentDiffusion, tmp_path: Path, config: dict[str, object]
) -> None:
    layers = layers_of(tiny_sd)
    check_lora(peft_file(tmp_path, layers, lora_alpha=3), layers)
    with pytest.raises(LoraError, match="PEFT configuration"):
        check_lora(peft_file(tmp_path, layers, **config), layers)


def test_dora_without_its_lengths_is_refused(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    layers = layers_of(tiny_sd)
    with pytest.raises(LoraError, match="without the lengths of DoRA"):
        check_lora(peft_file(tmp_path, layers, use_dora=True), layers)


def ones(**shapes: tuple[int, ...]) -> Tensors:
    """Return tensors of one layer, whose weight is (64, 64), by the ends of their names."""
    return {f"{LAYER}.{end}": torch.ones(shape) for end, shape in shapes.items()}


@pytest.mark.parametrize(
    "tensors",
    [
        ones(hada_w1_a=(64, 2), hada_w1_b=(2, 64), hada_w2_a=(64, 2)),
        ones(hada_w1_a=(64, 2), hada_w1_b=(2, 64), hada_w2_a=(64, 3), hada_w2_b=(3, 64)),
        ones(hada_w1_a=(64, 2), hada_w1_b=(3, 64), hada_w2_a=(64, 2), hada_w2_b=(3, 64)),
        ones(hada_w1_a=(64, 0), hada_w1_b=(0, 64), hada_w2_a=(64, 0), hada_w2_b=(0, 64)),
        ones(hada_w1_a=(9999,), hada_w1_b=(2, 64), hada_w2_a=(9999,), hada_w2_b=(2, 64)),
        ones(hada_w1_a=(2, 64), hada_w1_b=(2, 64), hada_w2_a=(2, 64), hada_w2_b=(2, 64),
             hada_t1=(2, 2, 1, 1)),
        ones(hada_w1_a=(2, 64), hada_w1_b=(2, 64), hada_w2_a=(2, 64), hada_w2_b=(2, 64),
             hada_t1=(2, 2, 999, 9), hada_t2=(2, 2, 999, 9)),
        ones(lokr_w1=(8, 8)),
        ones(lokr_w1=(8, 8), lokr_w2=(8, 9)),
        ones(lokr_w1=(64, 64), lokr_w2=(64, 64)),
        ones(lokr_w1=(8, 8), lokr_w1_a=(8, 1), lokr_w2=(8, 8)),
        ones(lokr_w1=(8, 8), lokr_w2_a=(8, 2), lokr_w2_b=(3, 8)),
        ones(lokr_w1=(8, 0), lokr_w2=(8, 8)),
        ones(lokr_w1=(8, 8), lokr_w2_a=(2, 8), lokr_w2_b=(2, 8), lokr_t2=(2, 2, 3, 3)),
        ones(lokr_w1=(8, 8), lokr_w2=(8, 8), lokr_t2=(2, 2)),
        ones(lokr_w1=(), lokr_w2=(64, 64)),
        ones(diff=(64, 65)),
        ones(diff=()),
        ones(diff=(64, 64, 1, 1), alpha=(3,)),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused_by_their_shapes(
    tiny_sd: LatentDiffusion, tmp_path: Path, tensors: Tensors
) -> None:
    file = spellings.save(tmp_path / "odd.safetensors", tensors)
    for reader in (check_lora, read_lora):
        with pytest.raises(LoraError, match=r"shapes that do not fit, .* for a weight|no number"):
            reader(file, layers_of(tiny_sd))


def test_key_of_two_text_encoders_is_refused(tiny_sdxl: LatentDiffusion, tmp_path: Path) -> None:
    layers = layers_of(tiny_sdxl)
    [layer] = [one for one in layers.shapes if one[0] == TEXT and one[1].endswith("0.mlp.fc1")]
    assert (TEXT_2, layer[1]) in layers.shapes
    pairs = spellings.random_pairs(layers, [layer])
    file = spellings.save(tmp_path / "bare.safetensors", spellings.peft(pairs, bare=True))
    with pytest.raises(LoraError, match="either of two layers"):
        check_lora(file, layers)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes((2**40).to_bytes(8, "little") + file.read_bytes()[8:]),
        lambda file: file.write_bytes(file.read_bytes().replace(b'"F32"', b'"F99"')),
        lambda file: file.unlink(),
    ],
    ids=["empty", "cut short", "endless header", "unknown type", "gone"],
)
def test_files_that_are_not_safetensors_are_refused(
    tiny_sd: LatentDiffusion, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    file = spellings.save(tmp_path / "bad.safetensors", lora_of({}))
    damage(file)
    with pytest.raises(LoraError, match="LoRA bad cannot be read"):
        check_lora(file, layers_of(tiny_sd))


def test_weights_that_the_model_does_not_use_are_skipped(
    tiny_sd: LatentDiffusion, tmp_path: Path
) -> None:
    """ComfyUI saves the projection of CLIP-L, which has no part in an image."""
    unused = "text_encoders.clip_l.transformer.text_projection"
    more = {f"{unused}.lora_down.weight": torch.ones(2, 32),
            f"{unused}.lora_up.weight": torch.ones(32, 2)}  # fmt: skip
    layers = layers_of(tiny_sd)
    file = spellings.save(tmp_path / "a.safetensors", lora_of({**more}))
    assert len(read_lora(file, layers).changes) == 1
    with pytest.raises(LoraError, match="no LoRA keys"):
        check_lora(spellings.save(tmp_path / "b.safetensors", more), layers)
