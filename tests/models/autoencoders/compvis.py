"""CompVis' own autoencoders, with the parameter names of their code."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def original_names(names: Iterable[str]) -> dict[str, str]:
    """Map diffusers' names to CompVis' names; CompVis' decoders count their levels in reverse."""
    names = list(names)
    levels = 1 + max(int(m[1]) for n in names if (m := re.search(r"down_blocks\.(\d+)", n)))
    return {name: _original(name, levels) for name in names}


def _original(name: str, levels: int) -> str:
    name = re.sub(r"down_blocks\.(\d+)", r"down.\1", name)
    name = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1")
    name = name.replace(".resnets.", ".block.").replace(".attentions.", ".attn.")
    name = re.sub(r"(down|up)samplers\.0\.", r"\1sample.", name)
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    for ours, theirs in _ATTENTION.items():
        name = re.sub(rf"(\.attn(?:_1|\.\d+))\.{re.escape(ours)}\.", rf"\1.{theirs}.", name)
    return name


def original_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return diffusers' weights as CompVis writes them: attention is a 1x1 convolution."""
    names = original_names(weights)
    return {
        names[name]: tensor[:, :, None, None]
        if tensor.ndim == 2 and ".attentions." in name
        else tensor
        for name, tensor in weights.items()
    }


class Quantiser(nn.Module):
    """The quantiser by its definition (Esser et al. 2021, equation 2), which the package lacks."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, channels)

    def forward(self, z: Tensor) -> Tensor:
        entries = self.embedding.weight
        distances = (z[:, None] - entries[None, :, :, None, None]).square().sum(2)
        return entries[distances.argmin(1)].movedim(-1, 1)


class Autoencoder(nn.Module):
    """CompVis' Encoder and Decoder with the layers between them, from a diffusers config."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        widths, channels = config["block_out_channels"], config["latent_channels"]
        gaussian = config["_class_name"] == "AutoencoderKL"
        attentive = [kind.startswith("Attn") for kind in config["down_block_types"]]
        arguments = {
            "ch": widths[0],
            "ch_mult": [width // widths[0] for width in widths],
            "num_res_blocks": config["layers_per_block"],
            "resolution": 64,
            "attn_resolutions": [64 >> level for level, has in enumerate(attentive) if has],
            "in_channels": config.get("in_channels", 3),
            "out_ch": config.get("out_channels", 3),
            "z_channels": channels,
            "double_z": gaussian,
        }
        if not config.get("mid_block_add_attention", True):
            arguments["attn_type"] = "none"
        compvis = importlib.import_module("ldm.modules.diffusionmodules.model")
        self.encoder, self.decoder = compvis.Encoder(**arguments), compvis.Decoder(**arguments)
        moments = 2 * channels if gaussian else channels
        self.quant_conv = nn.Conv2d(moments, moments, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)
        self.quantize = None if gaussian else Quantiser(config["num_vq_embeddings"], channels)

    def encode(self, image: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(image))

    def decode(self, z: Tensor) -> Tensor:
        if self.quantize is not None:
            z = self.quantize(z)
        return self.decoder(self.post_quant_conv(z))
