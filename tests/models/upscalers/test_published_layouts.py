"""Upscalers from each published key layout equal spandrel's networks with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.detect.detected_file import detect_file
from models.checkpoints.errors import CheckpointError
from models.checkpoints.meta import meta_device
from models.loading.inspection import inspect_checkpoint
from models.upscalers.config import UpscalerConfig
from models.upscalers.registry import load_upscaler
from tests.models.upscalers.reference import (
    Weights,
    compact,
    current,
    named,
    numbered,
    rrdb,
    save_pth,
)

CPU = torch.device("cpu")
TOLERANCE = 1e-5

# File -> layout, wrapper, and a network like its own with fewer layers.
FILES: dict[str, tuple[Callable[[Weights], Weights], str | None, Callable[[], nn.Module]]] = {
    "ESRGAN_SRx4": (numbered, None, rrdb),
    "4x-UltraSharp": (numbered, None, lambda: rrdb(blocks=2)),
    "1x_DeJPG": (numbered, None, lambda: rrdb(scale=1)),
    "2x-AnimeSharp": (numbered, None, lambda: rrdb(scale=2)),
    "8x_NMKD": (numbered, None, lambda: rrdb(scale=8)),
    "BSRGAN": (named, None, rrdb),
    "BSRGANx2": (named, None, lambda: rrdb(scale=2)),
    "RealESRGAN_x4plus": (current, "params_ema", rrdb),
    "RealESRGAN_x4plus_anime_6B": (current, "params_ema", lambda: rrdb(blocks=3, width=4)),
    "RealESRNet_x4plus": (current, "params", rrdb),
    "RealESRGAN_x2plus": (current, "params_ema", lambda: rrdb(scale=2, shuffle=2)),
    "RealESRGAN_x1": (current, "params_ema", lambda: rrdb(scale=1, shuffle=4)),
    "realesr-general-x4v3": (dict, "params", compact),
    "realesr-animevideov3": (dict, "params", lambda: compact(convolutions=2)),
    "2x_compact": (dict, "params", lambda: compact(scale=2)),
    "1x_compact": (dict, None, lambda: compact(scale=1)),
}


def converted(source: Path, folder: Path) -> Path:
    folder.mkdir()
    made = Conversion(source, folder).run()
    assert made.kind == "upscaler"
    assert inspect_checkpoint(str(folder)).all_problems == ()
    return folder


@pytest.mark.parametrize("name", FILES)
def test_output_equals_spandrel(name: str, tmp_path: Path) -> None:
    layout, wrapper, build = FILES[name]
    reference = build()
    file = save_pth(layout(reference.state_dict()), tmp_path / f"{name}.pth", wrapper)
    ours = load_upscaler(converted(file, tmp_path / "added"), torch.float32, CPU)
    image = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = reference(image), ours(image)
    assert isinstance(ours.config, UpscalerConfig)
    assert found.shape[-1] == 12 * ours.config.scale
    assert float(expected.std()) > 0.05
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["4x-UltraSharp", "RealESRGAN_x2plus", "realesr-general-x4v3"])
@pytest.mark.parametrize("wrapper", ["", "params_ema.", "params.", "module.", "params.module."])
def test_safetensors_with_and_without_a_wrapper(name: str, wrapper: str, tmp_path: Path) -> None:
    layout, _, build = FILES[name]
    weights = {f"{wrapper}{key}": tensor for key, tensor in layout(build().state_dict()).items()}
    save_file(weights, tmp_path / "file.safetensors")
    report = inspect_checkpoint(str(tmp_path / "file.safetensors"))
    assert (report.title, report.all_problems) == ("an upscaler", ())


# Published sizes: shapes that the released files have, without their weights.
PUBLISHED = {
    "RealESRGAN_x4plus": ({"blocks": 23, "doublings": 2, "unshuffle": 1}, 16_697_987),
    "RealESRGAN_x4plus_anime_6B": ({"blocks": 6, "doublings": 2, "unshuffle": 1}, 4_467_779),
    "RealESRGAN_x2plus": ({"blocks": 23, "doublings": 2, "unshuffle": 2}, 16_703_171),
    "realesr-general-x4v3": ({"convolutions": 32, "upscale": 4}, 1_213_296),
    "realesr-animevideov3": ({"convolutions": 16, "upscale": 4}, 621_424),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_are_detected(name: str) -> None:
    expected, parameters = PUBLISHED[name]
    with meta_device():
        network = _full_size(name)
    weights = network.state_dict()
    file = detect_file({key: tuple(tensor.shape) for key, tensor in weights.items()})
    config = file.config(file.kind)
    assert {key: config[key] for key in expected} == expected
    assert sum(tensor.numel() for tensor in weights.values()) == parameters


def _full_size(name: str) -> nn.Module:
    from tests.support.spandrel_oracle import spandrel

    made: nn.Module
    if name.startswith("realesr-"):
        convolutions = 32 if "general" in name else 16
        made = spandrel.architectures.Compact.Compact(num_conv=convolutions)
    else:
        blocks = 6 if "6B" in name else 23
        unfolded = {"in_nc": 12, "shuffle_factor": 2} if "x2" in name else {}
        made = spandrel.architectures.ESRGAN.ESRGAN(num_blocks=blocks, **unfolded)
    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("conv_last.weight"), "conv_last"),
        (lambda w: w.update({"conv_first.weight": torch.zeros(8, 7, 3, 3)}), "folded"),
        (lambda w: w.update({"conv_first.weight": torch.zeros(8)}), "conv_first"),
        (lambda w: w.update({"conv_last.weight": torch.zeros(0, 8, 3, 3)}), "conv_last"),
    ],
)
def test_impossible_shapes_are_refused(
    change: Callable[[Weights], object], message: str, tmp_path: Path
) -> None:
    weights = current(rrdb().state_dict())
    change(weights)
    with pytest.raises(CheckpointError, match=message):
        Conversion(save_pth(weights, tmp_path / "file.pth"), tmp_path).run()


@pytest.mark.parametrize("key", ["conv_extra.weight", "body.0.rdb1.conv6.weight"])
def test_unknown_keys_are_named(key: str, tmp_path: Path) -> None:
    weights = current(rrdb().state_dict())
    save_file({**weights, key: torch.zeros(8, 8, 3, 3)}, tmp_path / "file.safetensors")
    problems = inspect_checkpoint(str(tmp_path / "file.safetensors")).all_problems
    assert problems == (f"upscaler: unexpected: {key}",)
