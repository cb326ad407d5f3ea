"""ControlNets in the original layout (`control_model.*`): every key, and equal outputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints.checkpoint import read_json, resolve
from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.detect.configs import controlnet_config
from models.checkpoints.detect.detected_file import detect_file
from models.checkpoints.detect.families import detect_family
from models.checkpoints.detect.training_facts import POOLED
from models.checkpoints.errors import CheckpointError
from models.checkpoints.key_plan import Shape
from models.checkpoints.meta import meta_device
from models.loading.controlnets import load_controlnet
from models.loading.inspection import inspect_checkpoint
from models.networks.controlnet import ControlNet, ControlNetConfig
from tests.models.checkpoints.references import CONTEXT, HEADS, WIDTH, shaken, small
from tests.support.published import published
from tests.support.shared_files import shared_file

CANNY = "lllyasviel__control_v11p_sd15_canny"
TOLERANCE = 1e-4  # relative to the largest value of the reference

# Modules that a UNet's encoder does not have: lllyasviel/ControlNet, cldm/cldm.py.
OWN = {
    "controlnet_mid_block": "middle_block_out.0",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
    **{f"controlnet_cond_embedding.blocks.{i}": f"input_hint_block.{2 * i + 2}" for i in range(6)},
    "controlnet_cond_embedding.conv_out": "input_hint_block.14",
    **{f"controlnet_down_blocks.{i}": f"zero_convs.{i}.0" for i in range(12)},
}


def original_name(name: str) -> str:
    """Return the key in the original file; the UNet's keys come from the published mapping."""
    layer, _, part = name.rpartition(".")
    if layer in OWN:
        return f"control_model.{OWN[layer]}.{part}"
    pairs = json.loads(shared_file("facts/checkpoints/keys/mapping/sd1.unet.json").read_text())
    found: str = pairs[name]
    return found.replace("model.diffusion_model.", "control_model.")


def test_every_published_key_is_used() -> None:
    config = ControlNetConfig.from_dict(published(CANNY, "config.json"))
    with meta_device():
        ours = {n: tuple(t.shape) for n, t in ControlNet(config).state_dict().items()}
    file: dict[str, Shape] = {original_name(name): shape for name, shape in ours.items()}
    assert len(file) == 340
    plan = detect_file(file).plan("controlnet")
    assert {name: part.key for name, part in plan.items()} == {
        name: original_name(name) for name in ours
    }
    detected = controlnet_config(ours, detect_family(ours))
    unet = config.unet
    by_level = replace(
        unet,
        attention_head_dim=unet.heads,
        transformer_layers_per_block=(1,) * len(unet.layers),
    )
    assert ControlNetConfig.from_dict(detected) == replace(config, unet=by_level)


def small_controlnet(*, pools: bool) -> Any:
    config = published(CANNY, "config.json") | {
        "block_out_channels": [WIDTH, 64, 96, 96],
        "cross_attention_dim": CONTEXT,
        "attention_head_dim": HEADS,
        "conditioning_embedding_out_channels": [16, 16, 32, 32],
        "global_pool_conditions": pools,
    }
    return shaken(diffusers.ControlNetModel.from_config(config))


def write_original(theirs: Any, file: Path) -> Path:
    state = {original_name(n): t.clone().contiguous() for n, t in theirs.state_dict().items()}
    _save(state, file)
    return file


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("name", ["control_v11p_sd15_canny", "control_v11e_sd15_shuffle"])
def test_outputs_equal_those_of_diffusers(
    only: Callable[..., None], tmp_path: Path, suffix: str, name: str
) -> None:
    only(small("sd1"))
    theirs = small_controlnet(pools="shuffle" in name)
    file, folder = write_original(theirs, tmp_path / f"{name}.{suffix}"), tmp_path / "edges"
    folder.mkdir()
    assert Conversion(file, folder).run().kind == "controlnet"
    ours = load_controlnet(folder, torch.float32, torch.device("cpu"))
    x, context = torch.randn(2, 4, 16, 16), torch.randn(2, 7, CONTEXT)
    timestep = torch.tensor([3.0, 771.0])
    image = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        expected = theirs(x, timestep, context, image)
        outputs = ours(x, timestep, context, ours.embed(image))
    pairs = zip(outputs.skips, expected.down_block_res_samples, strict=True)
    for mine, its in (*pairs, (outputs.mid, expected.mid_block_res_sample)):
        assert float((mine - its).abs().max()) < TOLERANCE * float(its.abs().max())


def _save(state: dict[str, Tensor], file: Path) -> None:
    if file.suffix == ".pth":
        torch.save(state, file)
    else:
        save_file(state, file)


@pytest.fixture
def plain(only: Callable[..., None], tmp_path: Path) -> Path:
    only(small("sd1"))
    return write_original(small_controlnet(pools=False), tmp_path / "plain.safetensors")


@pytest.mark.parametrize(
    ("name", "yaml", "pools"),
    [
        ("control_v11e_sd15_shuffle", None, True),
        ("Control_SHUFFLE_fp16", None, True),
        ("control_v11p_sd15_canny", None, False),
        ("mine", "model:\n  params:\n    global_average_pooling: True\n", True),
        ("mine", "global_pool_conditions: true", True),
        ("shuffle", "model: {params: {global_average_pooling: False}}", False),
        ("shuffle", "model: {params: {only_mid_control: False}}", True),
        ("shuffle/diffusion_pytorch_model", None, True),
        ("shuffle/canny", None, False),
    ],
)
def test_pooling_of_a_single_file_is_detected(
    plain: Path, tmp_path: Path, name: str, yaml: str | None, pools: bool
) -> None:
    path = tmp_path / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    shutil.copy(plain, path)
    if yaml is not None:
        path.with_suffix(".yaml").write_text(yaml)
    (tmp_path / "added").mkdir()
    notes = [POOLED] if pools else []
    assert Conversion(path, tmp_path / "added").run().notes == notes
    for folder in (tmp_path / "added", resolve(str(path))):
        config = ControlNetConfig.from_dict(read_json(folder / "config.json"))
        assert config.global_pool_conditions is pools
        assert list(inspect_checkpoint(str(folder)).notes) == notes
    assert list(inspect_checkpoint(str(path)).notes) == notes
    link = tmp_path / "linked_shuffle.safetensors"
    link.symlink_to(path)
    linked = ControlNetConfig.from_dict(read_json(resolve(str(link)) / "config.json"))
    assert linked.global_pool_conditions is (pools or yaml is None)


@pytest.mark.parametrize("pools", [True, False])
def test_operator_decides_about_pooling(plain: Path, tmp_path: Path, pools: bool) -> None:
    path = tmp_path / ("canny.safetensors" if pools else "shuffle.safetensors")
    shutil.copy(plain, path)
    added, again = tmp_path / "added", tmp_path / "again"
    for source, target, chosen in ((path, added, pools), (added, again, not pools)):
        target.mkdir()
        Conversion(source, target, pools=chosen).run()
        assert (
            ControlNetConfig.from_dict(read_json(target / "config.json")).global_pool_conditions
            is chosen
        )


def test_other_kinds_have_no_pooling(plain: Path, tmp_path: Path) -> None:
    save_file({"emb_params": torch.zeros(1, 768)}, tmp_path / "style.safetensors")
    (tmp_path / "added").mkdir()
    with pytest.raises(CheckpointError, match="only a ControlNet has global_pool_conditions"):
        Conversion(tmp_path / "style.safetensors", tmp_path / "added", pools=True).run()
