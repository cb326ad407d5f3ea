"""Random weights in each published format: outputs equal those of the original code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.autoencoders.first_stage import FirstStage
from models.checkpoints.checkpoint import CheckpointError, load_component, resolve
from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.detect.families import Family
from models.loading.loader import load_model
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.text_encoder import TextEncoder
from models.networks.unet import AddedConditioning, UNet
from tests.models.checkpoints.networks import component
from tests.models.checkpoints.references import (
    CONTEXT,
    FAMILIES,
    Original,
    averaged,
    half,
    open_clip_transformer,
    original,
    shaken,
)
from tests.support.sampling import sample

CPU, FLOAT = torch.device("cpu"), torch.float32
TOLERANCE = 1e-4  # relative to the largest value of the reference

# The package calls a deprecated function of torch.
pytestmark = pytest.mark.filterwarnings("ignore:torch.get_autocast_gpu_dtype:DeprecationWarning")

Only = Callable[..., None]


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max())


# -- formats ------------------------------------------------------------------------------------


def as_single_safetensors(made: Original, tmp_path: Path) -> Path:
    """Save as on civitai, to be read without conversion."""
    save_file(contiguous(made.state), tmp_path / "single.safetensors", metadata={"a": "b"})
    return resolve(str(tmp_path / "single.safetensors"))


def as_lightning_checkpoint(made: Original, tmp_path: Path) -> Path:
    """Save as PyTorch Lightning does, with the training state."""
    path = tmp_path / "model.ckpt"
    save_lightning(made.state, path)
    return converted(path, tmp_path)


def as_old_torch_file(made: Original, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    torch.save({"state_dict": made.state}, path, _use_new_zipfile_serialization=False)
    return converted(path, tmp_path)


def save_lightning(state: dict[str, Tensor], path: Path) -> None:
    """Save with a callback of Lightning, whose class is not installed here."""
    callback = type("ModelCheckpoint", (), {})
    callback.__module__ = "pytorch_lightning.callbacks.model_checkpoint"
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, "pytorch_lightning.callbacks.model_checkpoint", callback)
        saved = {
            "epoch": 3,
            "global_step": 470000,
            "pytorch-lightning_version": "1.4.2",
            "callbacks": {callback: {"best_model_score": torch.tensor(0.5), "monitor": None}},
            "optimizer_states": [{"state": {0: {"step": 7}}, "param_groups": [{"lr": 1e-5}]}],
            "lr_schedulers": [],
            "state_dict": state,
        }
        torch.save(saved, path)


def stand_in(patch: pytest.MonkeyPatch, module: str, member: type) -> None:
    """Add a module for `member`, in which pickle finds the class while it writes."""
    import sys
    import types

    names = module.split(".")
    for i in range(1, len(names) + 1):
        patch.setitem(sys.modules, ".".join(names[:i]), types.ModuleType(".".join(names[:i])))
    setattr(sys.modules[module], member.__name__, member)


def converted(path: Path, tmp_path: Path, tokenizer: Path | None = None) -> Path:
    """Convert in this process: the child process has the published families only."""
    target = tmp_path / "converted"
    target.mkdir()
    made = Conversion(path, target, tokenizer=tokenizer or bert_vocabulary(tmp_path)).run()
    assert made.kind == "model"
    assert "model_index.json" in made.hashes
    return target


def bert_vocabulary(tmp_path: Path) -> Path:
    folder = tmp_path / "vocabulary"
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return folder


def contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies: safetensors refuses tensors that share memory."""
    return {name: tensor.clone().contiguous() for name, tensor in state.items()}


# -- outputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sample(FAMILIES, every=2))
def test_outputs_of_a_checkpoint_equal_those_of_the_original_code(
    name: str, only: Only, tmp_path: Path
) -> None:
    made = original(name)
    only(made.family)
    check(made, as_lightning_checkpoint(made, tmp_path))


def test_file_of_torch_before_1_6_is_converted(only: Only, tmp_path: Path) -> None:
    made = original("ldm-churches")
    only(made.family)
    check(made, as_old_torch_file(made, tmp_path))


@pytest.mark.parametrize("name", ["sd1", "sd2", "ldm-churches"])
def test_single_safetensors_file_loads_without_conversion(
    name: str, only: Only, tmp_path: Path
) -> None:
    made = original(name)
    only(made.family)
    folder = as_single_safetensors(made, tmp_path)
    check(made, folder)
    assert all(p.is_symlink() for p in folder.rglob("*.safetensors"))
    assert resolve(str(tmp_path / "single.safetensors")) == folder


def check(made: Original, folder: Path) -> None:
    """Load the whole model and compare the outputs of each network."""
    model = load_model(str(folder), CPU, FLOAT)
    check_unet(made.unet, made.family, model.unet)
    check_first_stage(made, model.autoencoder)
    check_text(made, folder)


def check_unet(theirs: nn.Module, family: Family, ours: UNet) -> None:
    x = torch.randn(2, family.signature.in_channels, 8, 8)
    t = torch.tensor([3, 771])
    context = torch.randn(2, 5, CONTEXT) if family.signature.context else None
    # The package's transformers need a context for each of their blocks.
    given: dict[str, Any] = {"context": None if context is None else [context] * depth_of(theirs)}
    added = None
    if ours.config.num_class_embeds is not None:
        labels = torch.tensor([20, 349])
        given["y"], added = labels, AddedConditioning(labels=labels.float())
    assert close(ours(x, t, context, added), theirs(x, t, **given))


def depth_of(unet: nn.Module) -> int:
    transformers: list[Any] = [m for m in unet.modules() if hasattr(m, "transformer_blocks")]
    return max(len(transformer.transformer_blocks) for transformer in transformers)


def check_first_stage(made: Original, ours: FirstStage) -> None:
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    latents = torch.randn(1, made.first_stage.post_quant_conv.in_channels, 8, 8)
    assert close(ours.moments(image), made.first_stage.encode(image))
    assert close(ours.decode(latents), made.first_stage.decode(latents))
    scale = {"ldm-churches": 0.37}.get(made.family.name, made.family.scaling_factor)
    assert ours.config.scaling_factor == pytest.approx(scale)


def check_text(made: Original, folder: Path) -> None:
    ids = torch.randint(3, 60, (2, 20))
    components = made.family.components
    if "text_encoder" in components:
        features = component(folder, "text_encoder")(ids)
        open_clip = made.family.open_clip
        expected = made.text(ids) if open_clip else made.text(input_ids=ids).last_hidden_state
        assert close(features.last, expected)
    if "bert" in components:
        assert close(component(folder, "bert")(ids), made.text(input_ids=ids)[0])
    if "class_embedder" in components:
        table = made.state["cond_stage_model.embedding.weight"]
        ours = component(folder, "class_embedder")
        assert torch.equal(ours(torch.tensor([10]))[0, 0], table[10])
    if "rescaler" in components:
        weight = made.state["cond_stage_model.channel_mapper.weight"]
        assert torch.equal(component(folder, "rescaler").channel_mapper.weight, weight)


def test_averaged_weights_are_used_where_a_file_holds_them(only: Only, tmp_path: Path) -> None:
    """As in sd-v1-4-full-ema.ckpt: the other weights are those of the last training step."""
    made = original("sd1-inpainting")
    only(made.family)
    average = averaged(made.unet)
    assert "model_ema.diffusion_modelout2bias" in average
    last_step = {
        key: torch.randn_like(tensor)
        for key, tensor in made.state.items()
        if key.startswith("model.diffusion_model.")
    }
    made.state |= average | last_step
    check_unet(made.unet, made.family, component(as_lightning_checkpoint(made, tmp_path), "unet"))
    check_unet(made.unet, made.family, component(as_single_safetensors(made, tmp_path), "unet"))


def with_averages(only: Only) -> tuple[Original, dict[str, Tensor]]:
    """Return a model whose file holds both, and the weights of its last step in the UNet's names.

    The network of the original code has the averaged ones.
    """
    made = original("sd1-inpainting")
    only(made.family)
    last = {
        key: 0.7 * tensor
        for key, tensor in made.state.items()
        if key.startswith("model.diffusion_model.")
    }
    made.state |= averaged(made.unet) | last
    return made, {key.removeprefix("model.diffusion_model."): t for key, t in last.items()}


def unet_of(folder: Path, ema: bool | None) -> UNet:
    return load_component(
        folder / "unet", lambda config: UNet(UNetConfig.from_dict(config)), FLOAT, CPU, ema
    )


def test_operator_chooses_the_weights_of_the_last_step(only: Only, tmp_path: Path) -> None:
    made, last = with_averages(only)
    folder = as_single_safetensors(made, tmp_path)
    check_unet(made.unet, made.family, unet_of(folder, ema=True))
    chosen = unet_of(folder, ema=False)
    made.unet.load_state_dict(last)
    check_unet(made.unet, made.family, chosen)
    path, target = tmp_path / "model.ckpt", tmp_path / "last"
    save_lightning(made.state, path)
    Conversion(path, target, ema=False).run()
    check_unet(made.unet, made.family, unet_of(target, ema=None))


def test_choice_of_weights_that_a_file_does_not_hold_is_refused(only: Only, tmp_path: Path) -> None:
    made = original("sd1-inpainting")
    only(made.family)
    folder = as_single_safetensors(made, tmp_path)
    for ema in (True, False):
        with pytest.raises(CheckpointError, match=f"ema is {ema}, and the file holds one".lower()):
            unet_of(folder, ema)
        with pytest.raises(CheckpointError, match=f"ema is {ema}, and".lower()):
            Conversion(tmp_path / "single.safetensors", tmp_path / f"no-{ema}", ema=ema).run()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_file_in_half_precision_is_loaded(dtype: torch.dtype, only: Only, tmp_path: Path) -> None:
    """Pruned as on civitai: no schedule, no averages, a text encoder without prefix."""
    made = original("sd1-inpainting")
    only(made.family)
    kept = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
    made.state = {
        key.replace("transformer.text_model.", "transformer."): tensor
        for key, tensor in half(made.state, dtype).items()
        if key.startswith(kept)
    }
    rounded = half(made.unet.state_dict(), dtype)
    made.unet.load_state_dict({k: v.float() for k, v in rounded.items()})
    for folder in (as_single_safetensors(made, tmp_path), as_lightning_checkpoint(made, tmp_path)):
        check_unet(made.unet, made.family, component(folder, "unet"))
        stored = component(folder, "unet", dtype)
        assert torch.equal(
            stored.conv_in.weight,
            made.state["model.diffusion_model.input_blocks.0.0.weight"],
        )


def test_outputs_of_open_clips_text_encoder_are_equal(tmp_path: Path) -> None:
    """SDXL's second text encoder: stacked matrices, and a transposed projection."""
    from models.checkpoints.detect.configs import clip_config
    from models.checkpoints.key_plan import shapes_of
    from models.checkpoints.keys.text import open_clip_plan

    with open_clip_transformer() as code:
        torch.manual_seed(5)
        theirs = shaken(
            code.TextTransformer(
                context_length=77, vocab_size=99, width=128, heads=2, layers=3, output_dim=128
            )
        )
    state = theirs.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    plan = open_clip_plan([*shapes, "logit_scale"])
    config = clip_config(shapes_of(plan, shapes), hidden_act="gelu")
    ours = TextEncoder(TextEncoderConfig.from_dict(config)).eval()
    ours.load_state_dict({name: part.cut(state[part.key]) for name, part in plan.items()})
    ids = torch.randint(3, 90, (2, 77))
    ids[:, 40] = 98  # the end of the text: the largest of all
    with torch.no_grad():
        assert close(ours(ids).pooled, theirs(ids))
