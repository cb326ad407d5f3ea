"""Single files that are not exactly as published: each loads, or the refusal says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoints.checkpoint import read_json, resolve
from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.detect.detected_file import detect_file
from models.checkpoints.errors import CheckpointError, CheckpointMissing
from models.loading.controlnets import load_controlnet
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model
from tests.models.checkpoints.networks import component
from tests.models.checkpoints.references import CONTEXT, Original, original, small
from tests.models.checkpoints.test_controlnet_files import original_name, small_controlnet

CPU = torch.device("cpu")
TOLERANCE = 1e-4  # relative to the largest value of the reference
UNET, FIRST_STAGE = "model.diffusion_model.", "first_stage_model."

# The package calls a deprecated function of torch.
pytestmark = pytest.mark.filterwarnings("ignore:torch.get_autocast_gpu_dtype:DeprecationWarning")

Only = Callable[..., None]


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max())


@pytest.fixture
def made(only: Only) -> Original:
    """A small Stable Diffusion 1.x by the original code."""
    made = original("sd1")
    only(made.family)
    return made


def saved(made: Original, folder: Path) -> Path:
    path = folder / "unusual.safetensors"
    save_file({name: tensor.clone().contiguous() for name, tensor in made.state.items()}, path)
    return path


def drop(made: Original, *prefixes: str) -> None:
    made.state = {k: v for k, v in made.state.items() if not k.startswith(prefixes)}


# -- first stages -------------------------------------------------------------------------------


@pytest.mark.parametrize("left_out", [("quant_conv",), ("quant_conv", "post_quant_conv")])
def test_first_stage_without_its_1x1_convolutions(
    made: Original, tmp_path: Path, left_out: tuple[str, ...]
) -> None:
    """As some fine-tunes have it, with the convolutions merged into their neighbours."""
    for name in left_out:
        drop(made, f"{FIRST_STAGE}{name}.")
        setattr(made.first_stage, name, nn.Identity())
    ours = load_model(str(saved(made, tmp_path)), CPU, torch.float32).autoencoder
    image, latents = torch.rand(1, 3, 16, 16) * 2 - 1, torch.randn(1, 4, 8, 8)
    assert close(ours.moments(image), made.first_stage.encode(image))
    assert close(ours.decode(latents), made.first_stage.decode(latents))
    assert inspect_checkpoint(str(tmp_path / "unusual.safetensors")).valid


def test_whole_file_without_an_encoder_is_refused(made: Original, tmp_path: Path) -> None:
    drop(made, f"{FIRST_STAGE}encoder.", f"{FIRST_STAGE}quant_conv.")
    with pytest.raises(CheckpointError, match="its first stage has no encoder"):
        resolve(str(saved(made, tmp_path)))


def test_first_stage_of_another_file_serves_one_without(made: Original, tmp_path: Path) -> None:
    whole = load_model(str(saved(made, tmp_path)), CPU, torch.float32).autoencoder
    first_stage = {k: v for k, v in made.state.items() if k.startswith(FIRST_STAGE)}
    save_file(first_stage, tmp_path / "vae.safetensors")
    drop(made, FIRST_STAGE)
    path = saved(made, tmp_path)
    with pytest.raises(CheckpointMissing, match="named as `vae` in the models config"):
        load_model(str(path), CPU, torch.float32)
    (tmp_path / "added").mkdir()
    Conversion(path, tmp_path / "added").run()
    vae = resolve(str(tmp_path / "vae.safetensors"))
    for source in (path, tmp_path / "added"):
        served = load_model(str(source), CPU, torch.float32, first_stage=vae).autoencoder
        latents = torch.randn(1, 4, 8, 8)
        assert torch.equal(served.decode(latents), whole.decode(latents))
        assert served.config.scaling_factor == whole.config.scaling_factor


def test_decoder_alone_is_refused(made: Original, tmp_path: Path) -> None:
    made.state = {
        key.removeprefix(FIRST_STAGE): tensor
        for key, tensor in made.state.items()
        if key.startswith((f"{FIRST_STAGE}decoder.", f"{FIRST_STAGE}post_quant_conv."))
    }
    with pytest.raises(CheckpointError, match="decoder of a first stage without its encoder"):
        inspect_checkpoint(str(saved(made, tmp_path)))


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("cond_stage_model.", "the file holds no text_encoder"),
        (f"{UNET}out.2.weight", r"conv_out\.weight is missing"),
        (f"{UNET}input_blocks.0.0.weight", "not a checkpoint in the original layout"),
        (f"{FIRST_STAGE}decoder.conv_in.weight", r"decoder\.conv_in\.weight is missing"),
    ],
)
def test_missing_parts_are_named(made: Original, tmp_path: Path, prefix: str, message: str) -> None:
    drop(made, prefix)
    with pytest.raises(CheckpointError, match=message):
        resolve(str(saved(made, tmp_path)))


# -- UNets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resnets", "kind"), [(1, "UNetMidBlock2D"), (0, None)])
def test_middle_block_without_attention(
    made: Original, tmp_path: Path, resnets: int, kind: str | None
) -> None:
    """As in distilled networks, whose middle block has one resnet, or is absent."""
    drop(made, *(f"{UNET}middle_block.{i}." for i in range(resnets, 3)))
    folder = resolve(str(saved(made, tmp_path)))
    config = read_json(folder / "unet/config.json")
    assert config["mid_block_type"] == kind
    assert inspect_checkpoint(str(folder)).valid
    ours = component(folder, "unet")
    reference = diffusers.UNet2DConditionModel.from_config(config).eval()
    reference.load_state_dict(ours.state_dict())
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([3, 771]), torch.randn(2, 5, CONTEXT)
    with torch.no_grad():
        assert close(ours(x, t, context), reference(x, t, context).sample)


# -- ControlNets ----------------------------------------------------------------------------------


def controlnet() -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a small ControlNet of diffusers and its weights by the original names."""
    network = small_controlnet(pools=False)
    return network, {original_name(name): t for name, t in network.state_dict().items()}


def whole_checkpoint(state: dict[str, Tensor], model: dict[str, Tensor]) -> dict[str, Tensor]:
    """As published first: the ControlNet together with the model that it was trained on."""
    return model | state


def bare(state: dict[str, Tensor], model: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("control_model."): tensor for key, tensor in state.items()}


@pytest.mark.parametrize("spell", [whole_checkpoint, bare])
def test_controlnet_in_other_spellings(
    only: Only, tmp_path: Path, spell: Callable[..., dict[str, Tensor]]
) -> None:
    (reference, state), model = controlnet(), original("sd1").state
    only(small("sd1"))
    path = tmp_path / "canny.safetensors"
    spelled = {k: v.clone().contiguous() for k, v in spell(state, model).items()}
    save_file(spelled, path)
    assert inspect_checkpoint(str(path)).lines()[0] == "a ControlNet (ControlNetModel)"
    assert inspect_checkpoint(str(path)).valid
    (tmp_path / "added").mkdir()
    assert Conversion(path, tmp_path / "added").run().kind == "controlnet"
    for folder in (resolve(str(path)), tmp_path / "added"):
        ours = load_controlnet(folder, torch.float32, CPU)
        assert ours.state_dict().keys() == reference.state_dict().keys()
        for name, tensor in reference.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), name


def test_stray_key_of_a_controlnet_is_reported(only: Only, tmp_path: Path) -> None:
    _, state = controlnet()
    only(small("sd1"))
    shapes: dict[str, Any] = {key: tuple(tensor.shape) for key, tensor in state.items()}
    shapes["control_model.stranger.weight"] = (1,)
    assert detect_file(shapes).unknown == ("control_model.stranger.weight",)
