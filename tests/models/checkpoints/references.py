"""Small checkpoints in the original layout, made with the networks of the original code.

CompVis' UNet and autoencoders (stable-diffusion-sdkit), open_clip's text encoder, transformers'
CLIP and diffusers' copy of the paper's text encoder, with random weights. Our networks must compute
the same from the file that holds them.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.checkpoints.detect.families import Family, Signature, families
from tests.models.autoencoders.compvis import Autoencoder

WIDTH, CONTEXT, HEAD_WIDTH, HEADS = 32, 48, 16, 4

# Arguments of CompVis' UNetModel: every kind of block of each family, with few channels.
_UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"attention_resolutions": [2, 1], "channel_mult": (1, 2, 2), "num_heads": HEADS},
    "sd1-inpainting": {"attention_resolutions": [1], "channel_mult": (1, 2), "num_heads": HEADS},
    "sd1-edit": {"attention_resolutions": [1], "channel_mult": (1, 2), "num_heads": HEADS},
    "sd2": {
        "attention_resolutions": [2, 1],
        "channel_mult": (1, 2, 2),
        "use_linear_in_transformer": True,
    },
    "sd2-inpainting": {
        "attention_resolutions": [1],
        "channel_mult": (1, 2),
        "use_linear_in_transformer": True,
    },
    "sd2-depth": {
        "attention_resolutions": [1],
        "channel_mult": (1, 2),
        "use_linear_in_transformer": True,
    },
    "sd2-upscaler": {
        "attention_resolutions": [2, 4],
        "channel_mult": (1, 2, 4),
        "num_heads": HEADS,
        "num_classes": 1000,
        "disable_self_attentions": [True, True, False],
        "use_linear_in_transformer": True,
    },
    "ldm-unconditional": {"attention_resolutions": [4, 2], "channel_mult": (1, 2, 3)},
    "ldm-churches": {
        "attention_resolutions": [1, 2],
        "channel_mult": (1, 2, 2),
        "num_heads": HEADS,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
    },
    "ldm-inpainting": {
        "attention_resolutions": [4, 2],
        "channel_mult": (1, 2, 3),
        "num_heads": HEADS,
        "resblock_updown": True,
    },
    "ldm-super-resolution": {"attention_resolutions": [4], "channel_mult": (1, 2, 2)},
    "ldm-semantic": {"attention_resolutions": [32], "channel_mult": (1, 2), "num_heads": HEADS},
    "ldm-class": {"attention_resolutions": [2, 1], "channel_mult": (1, 2)},
    "ldm-class-v2": {"attention_resolutions": [2], "channel_mult": (1, 2), "num_heads": 1},
    "ldm-text": {"attention_resolutions": [4, 2], "channel_mult": (1, 2, 3)},
    "ldm-text-large": {"attention_resolutions": [2, 1], "channel_mult": (1, 2), "num_heads": HEADS},
    "ldm-layout": {"attention_resolutions": [2], "channel_mult": (1, 2), "transformer_depth": 3},
}
# Families whose latents have three channels; the others have four.
_OUT_CHANNELS_3 = {
    "ldm-unconditional", "ldm-inpainting", "ldm-super-resolution", "ldm-semantic",
    "ldm-class-v2", "ldm-text", "ldm-layout",
}  # fmt: skip
FAMILIES = tuple(_UNETS)

_SCHEDULE = ("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod")


@dataclass
class Original:
    """A checkpoint: its family, its networks, and the state dict of its file."""

    family: Family
    unet: nn.Module
    first_stage: Autoencoder
    state: dict[str, Tensor]
    text: Any = None


def small(name: str) -> Family:
    """Return the family `name` with the small widths used here."""
    (family,) = (family for family in families() if family.name == name)
    context = CONTEXT if family.signature.context else 0
    signature = Signature(family.signature.in_channels, WIDTH, context)
    if family.head_width is not None:
        return replace(family, signature=signature, head_width=HEAD_WIDTH)
    heads = 1 if family.heads_at_each_level == 1 else HEADS
    return replace(family, signature=signature, heads_at_each_level=heads)


@torch.no_grad()
def shaken(network: nn.Module) -> nn.Module:
    """Add noise to all weights of `network`, so that none is zero, and return it."""
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return network.eval().requires_grad_(False)


def compvis_unet(family: Family) -> nn.Module:
    """Return CompVis' UNet in the small size of `family`."""
    pytest.importorskip("ldm", reason="stable-diffusion-sdkit is not installed")
    code = importlib.import_module("ldm.modules.diffusionmodules.openaimodel")
    depth = _UNETS[family.name].get("transformer_depth", 1)
    arguments = {
        "image_size": 16,
        "in_channels": family.signature.in_channels,
        "out_channels": 3 if family.name in _OUT_CHANNELS_3 else 4,
        "model_channels": WIDTH,
        "num_res_blocks": 2,
        **({} if "num_heads" in _UNETS[family.name] else {"num_head_channels": HEAD_WIDTH}),
        **_UNETS[family.name],
    }
    if family.signature.context:
        # A context for each block: the package requires it for more than one block.
        arguments |= {
            "use_spatial_transformer": True,
            "context_dim": [family.signature.context] * depth,
        }
    lists = types.ModuleType("omegaconf.listconfig")
    lists.__dict__["ListConfig"] = tuple  # the list class of the package's configurations
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        patch.setitem(sys.modules, "omegaconf.listconfig", lists)
        network: nn.Module = code.UNetModel(**arguments)
    return shaken(network)


def averaged(unet: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of CompVis' moving average of a UNet."""
    code = importlib.import_module("ldm.modules.ema")
    wrapper = nn.Module()
    wrapper.diffusion_model = unet.requires_grad_(True)
    state: dict[str, Tensor] = code.LitEma(wrapper).state_dict()
    unet.requires_grad_(False)
    return {f"model_ema.{name}": tensor for name, tensor in state.items()}


def compvis_first_stage(family: Family) -> Autoencoder:
    """Return CompVis' autoencoder, with a codebook in families of three latent channels."""
    quantised = "vqvae" in family.components and family.name not in (
        "ldm-churches",
        "ldm-text-large",
    )
    config = {
        "_class_name": "VQModel" if quantised else "AutoencoderKL",
        "block_out_channels": [32, 64],
        "layers_per_block": 2,
        "latent_channels": 3 if family.name in _OUT_CHANNELS_3 else 4,
        "num_vq_embeddings": 24,
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "mid_block_add_attention": family.name != "ldm-inpainting",
    }
    if family.name == "ldm-class":
        config["down_block_types"] = ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]
    network = shaken(Autoencoder(config))
    assert isinstance(network, Autoencoder)
    return network


def clip_text(vocabulary: int = 99) -> nn.Module:
    """Return transformers' CLIP text encoder."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=CONTEXT if vocabulary == 99 else 64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    return shaken(CLIPTextModel(config))


def clip_state(network: nn.Module) -> dict[str, Tensor]:
    """Return its weights by the names in files, with the buffer of old files."""
    state = {
        f"text_model.{name.removeprefix('text_model.')}": tensor
        for name, tensor in network.state_dict().items()
    }
    return {**state, "text_model.embeddings.position_ids": torch.arange(77)[None]}


@contextmanager
def open_clip_transformer() -> Iterator[Any]:
    """Import open_clip's networks without torchvision, which text encoders do not use."""
    found = find_spec("open_clip")
    if found is None or found.origin is None:
        pytest.skip("open_clip_torch is not installed")
    package = types.ModuleType("open_clip")
    package.__path__ = [str(Path(found.origin).parent)]
    vision = types.ModuleType("torchvision.ops.misc")
    vision.__dict__["FrozenBatchNorm2d"] = nn.Identity
    stand_ins = {
        "open_clip": package,
        "torchvision": types.ModuleType("torchvision"),
        "torchvision.ops": types.ModuleType("torchvision.ops"),
        "torchvision.ops.misc": vision,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stand_ins.items():
            patch.setitem(sys.modules, name, module)
        yield importlib.import_module("open_clip.transformer")
        for name in [name for name in sys.modules if name.startswith("open_clip.")]:
            del sys.modules[name]


class OpenClipText(nn.Module):
    """FrozenOpenCLIPEmbedder of Stable Diffusion 2, which reads the last layer but one."""

    def __init__(self) -> None:
        super().__init__()
        with open_clip_transformer() as code:
            self.model = code.TextTransformer(
                context_length=77, vocab_size=99, width=CONTEXT, heads=1, layers=3, output_dim=32
            )

    def forward(self, ids: Tensor) -> Tensor:
        model = self.model
        x = model.token_embedding(ids) + model.positional_embedding[: ids.shape[1]]
        for block in model.transformer.resblocks[:-1]:
            x = block(x, attn_mask=model.attn_mask[: ids.shape[1], : ids.shape[1]])
        out: Tensor = model.ln_final(x)
        return out


def bert_text() -> nn.Module:
    """Return diffusers' copy of the paper's text encoder."""
    code = importlib.import_module("diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion")
    config = code.LDMBertConfig(
        vocab_size=60,
        max_position_embeddings=20,
        encoder_layers=2,
        encoder_ffn_dim=96,
        encoder_attention_heads=2,
        head_dim=64,
        d_model=CONTEXT,
    )
    return shaken(code.LDMBertModel(config))


_BERT = {
    "model.embed_tokens.weight": "token_emb.weight",
    "model.embed_positions.weight": "pos_emb.emb.weight",
    "model.layer_norm.": "norm.",
}
_BERT_LAYER = {
    "self_attn_layer_norm": (0, "0"),
    "self_attn.q_proj": (0, "1.to_q"),
    "self_attn.k_proj": (0, "1.to_k"),
    "self_attn.v_proj": (0, "1.to_v"),
    "self_attn.out_proj": (0, "1.to_out"),
    "final_layer_norm": (1, "0"),
    "fc1": (1, "1.net.0.0"),
    "fc2": (1, "1.net.2"),
}


def bert_state(network: nn.Module) -> dict[str, Tensor]:
    """Return its weights by the names of the paper's x_transformer.py."""
    return {bert_name(name): tensor for name, tensor in network.state_dict().items()}


def bert_name(name: str) -> str:
    """Return the name of the paper's code, which keeps both kinds of layers in one list."""
    for ours, theirs in _BERT.items():
        if name.startswith(ours):
            return f"transformer.{theirs}{name[len(ours) :]}"
    if name.startswith("model.layers."):
        number, rest = name.removeprefix("model.layers.").split(".", 1)
        module, kind = rest.rsplit(".", 1)
        half, theirs = _BERT_LAYER[module]
        return f"transformer.attn_layers.layers.{2 * int(number) + half}.{theirs}.{kind}"
    return f"transformer.{name}"


def original(name: str) -> Original:
    """Return a small checkpoint of the family `name`, with all keys of its published file."""
    torch.manual_seed(len(name))
    family = small(name)
    unet, first_stage = compvis_unet(family), compvis_first_stage(family)
    state = {
        **{f"model.diffusion_model.{k}": v for k, v in unet.state_dict().items()},
        **{f"first_stage_model.{k}": v for k, v in first_stage.state_dict().items()},
        **{name: torch.rand(1000) for name in _SCHEDULE},
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(7, dtype=torch.int32),
    }
    made = Original(family, unet, first_stage, state)
    _add_conditioning(made)
    return made


def _add_conditioning(made: Original) -> None:
    components = made.family.components
    if made.family.open_clip:
        made.text = shaken(OpenClipText())
        made.state |= {f"cond_stage_model.{k}": v for k, v in made.text.state_dict().items()}
        made.state["cond_stage_model.model.logit_scale"] = torch.tensor(4.6)
    elif "text_encoder" in components:
        made.text = clip_text()
        spelled = clip_state(made.text)
        made.state |= {f"cond_stage_model.transformer.{k}": v for k, v in spelled.items()}
    if "bert" in components:
        made.text = bert_text()
        made.state |= {f"cond_stage_model.{k}": v for k, v in bert_state(made.text).items()}
    if "class_embedder" in components:
        made.state["cond_stage_model.embedding.weight"] = torch.randn(11, CONTEXT)
    if "rescaler" in components:
        made.state["cond_stage_model.channel_mapper.weight"] = torch.randn(3, 13, 1, 1)
    if made.family.name == "ldm-churches":
        made.state["scale_factor"] = torch.tensor(0.37)
    if made.family.name == "ldm-inpainting":
        copies = made.first_stage.state_dict()
        made.state |= {f"cond_stage_model.{k}": v for k, v in copies.items()}


def half(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the floating-point tensors in `dtype`, and integers unchanged."""
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
