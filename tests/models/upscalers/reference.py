"""spandrel's networks with random weights, and their files in each published key layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.support.spandrel_oracle import spandrel

Weights = dict[str, Tensor]


def rrdb(
    *, scale: int = 4, blocks: int = 1, width: int = 8, shuffle: int | None = None
) -> nn.Module:
    """Return spandrel's RRDBNet with random weights."""
    made: nn.Module = spandrel.architectures.ESRGAN.ESRGAN(
        in_nc=3 * (shuffle or 1) ** 2,
        num_filters=width,
        num_blocks=blocks,
        scale=scale * (shuffle or 1),
        shuffle_factor=shuffle,
    )
    return randomised(made)


def compact(*, scale: int = 4, convolutions: int = 3, width: int = 8) -> nn.Module:
    """Return spandrel's SRVGGNetCompact with random weights."""
    made: nn.Module = spandrel.architectures.Compact.Compact(
        num_feat=width, num_conv=convolutions, upscale=scale
    )
    return randomised(made)


def randomised(network: nn.Module) -> nn.Module:
    """Give every parameter random values that keep the size of activations, biases included."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        fan_in = max(1, parameter[0].numel() if parameter.ndim > 1 else 9)
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise / fan_in**0.5 if parameter.ndim > 1 else 0.2 + 0.1 * noise
    return network.eval()


def numbered(weights: Mapping[str, Tensor]) -> Weights:
    """Return the names of ESRGAN (2018): those of spandrel."""
    return dict(weights)


def _renamed(rules: Mapping[str, str]) -> Callable[[Mapping[str, Tensor]], Weights]:
    def rename(weights: Mapping[str, Tensor]) -> Weights:
        last = max(int(key.split(".")[1]) for key in weights)
        end = max(int(key.split(".")[3]) for key in weights if ".sub." in key)
        named = {}
        for key, tensor in weights.items():
            place = key.replace(f"model.1.sub.{end}.", "END.")
            place = place.replace(f"model.{last}.", "LAST.").replace(f"model.{last - 2}.", "HR.")
            for pattern, new in rules.items():
                place = re.sub(pattern, new, place)
            if up := re.fullmatch(r"model\.(\d+)\.(\w+)", place):
                prefix = rules["UP"]
                place = f"{prefix}{int(up[1]) // 3}.{up[2]}"
            named[place] = tensor
        return named

    return rename


# github.com/xinntao/Real-ESRGAN and BasicSR: basicsr/archs/rrdbnet_arch.py at 8d56e3a.
current = _renamed(
    {
        r"^model\.0\.": "conv_first.",
        r"^END\.": "conv_body.",
        r"^HR\.": "conv_hr.",
        r"^LAST\.": "conv_last.",
        r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.": r"body.\1.rdb\2.conv\3.",
        "UP": "conv_up",
    }
)
# github.com/cszn/BSRGAN: models/network_rrdbnet.py, and ESRGAN after 2019.
named = _renamed(
    {
        r"^model\.0\.": "conv_first.",
        r"^END\.": "trunk_conv.",
        r"^HR\.": "HRconv.",
        r"^LAST\.": "conv_last.",
        r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.": r"RRDB_trunk.\1.RDB\2.conv\3.",
        "UP": "upconv",
    }
)


def save_pth(weights: Mapping[str, object], path: Path, wrapper: str | None = None) -> Path:
    """Write a .pth file, with the weights in a dictionary under `wrapper`."""
    torch.save({wrapper: weights} if wrapper else dict(weights), path)
    return path
