"""CompVis' networks, built from their published configurations with CompVis' own code.

UNet, encoder, decoder, class embedder, betas and moving average are those of stable-diffusion-sdkit
(`ldm`). It lacks the codebook and the paper's text encoder, so these are diffusers'. CLIP is that
of transformers. The rescaler of label maps is implemented here from its definition (Rombach et al.
2022, section 4.3.2: halved by averaging, then a linear map of the channels).
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.full_size.finding import random, random_ids
from tests.models.checkpoints.references import bert_state, clip_state

Params = Mapping[str, Any]  # `params` of a class in a configuration

TOKENS = 77  # of the context


class UNet(nn.Module):
    """UNet: (x (1, C, h, w), time (1,), context (1, T, D) or None) -> (1, C', h, w)."""

    def __init__(self, params: Params, side: int) -> None:
        super().__init__()
        self.side, self.channels = side, int(params["in_channels"])
        self.depth, self.width = params.get("transformer_depth", 1), params.get("context_dim")
        # One context for each block: the package cannot build several blocks otherwise.
        several = {} if self.width is None else {"context_dim": [self.width] * self.depth}
        code = import_code("ldm.modules.diffusionmodules.openaimodel")
        with _stub_modules():
            self.diffusion_model = code.UNetModel(**{**params, **several})

    def inputs(self) -> tuple[Tensor | None, ...]:
        context = None if self.width is None else random(1, TOKENS, self.width)
        return random(1, self.channels, self.side, self.side), torch.tensor([500.0]), context

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None) -> list[Tensor]:
        several = None if context is None else [context] * self.depth
        return [self.diffusion_model(x, time, several)]

    def published_state(self) -> dict[str, Tensor]:
        return {f"model.{name}": tensor for name, tensor in self.state_dict().items()}


class FirstStage(nn.Module):
    """First stage: (image (1, 3, H, W), scaled latents (1, C, h, w)) -> (moments, image)."""

    def __init__(self, kind: str, params: Params, side: int, scale: float) -> None:
        super().__init__()
        shape, channels = params["ddconfig"], params["embed_dim"]
        code = import_code("ldm.modules.diffusionmodules.model")
        self.encoder, self.decoder = code.Encoder(**shape), code.Decoder(**shape)
        twice = 2 if shape["double_z"] else 1
        self.quant_conv = nn.Conv2d(twice * shape["z_channels"], twice * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, shape["z_channels"], 1)
        self.quantize = _codebook(params) if kind == "VQModelInterface" else None
        self.side, self.channels, self.scale = side, channels, scale
        self.factor = 1 << (len(shape["ch_mult"]) - 1)

    def inputs(self) -> tuple[Tensor, ...]:
        pixels = self.side * self.factor
        return random(1, 3, pixels, pixels).clamp(-1, 1), self._latents()

    def _latents(self) -> Tensor:
        """Return latents close to entries of the codebook, as in a trained model. Between two
        entries at the same distance the last bit would choose."""
        z = random(1, self.channels, self.side, self.side)
        if self.quantize is None:
            return z
        entries = self.quantize.get_parameter("embedding.weight")
        chosen = random_ids(len(entries), self.side**2)[0]
        return entries[chosen].T.reshape(z.shape) + z / 100

    def forward(self, image: Tensor, z: Tensor) -> list[Tensor]:
        z = z / self.scale
        if self.quantize is not None:
            z = self.quantize(z)[0]
        decoded = self.decoder(self.post_quant_conv(z))
        return [self.quant_conv(self.encoder(image)), decoded]

    def published_state(self) -> dict[str, Tensor]:
        return {f"first_stage_model.{name}": tensor for name, tensor in self.state_dict().items()}


def _codebook(params: Params) -> nn.Module:
    code = import_code("diffusers.models.autoencoders.vae")
    quantizer: nn.Module = code.VectorQuantizer(params["n_embed"], params["embed_dim"], beta=0.25)
    nn.init.normal_(quantizer.get_parameter("embedding.weight"))  # spread like latents
    return quantizer


class Bert(nn.Module):
    """Text encoder of the paper: ids (1, T) -> (1, T, D)."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        code = import_code("diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion")
        self.vocabulary, self.length = (
            params.get("vocab_size", 30522),
            params.get("max_seq_len", 77),
        )
        config = code.LDMBertConfig(
            vocab_size=self.vocabulary,
            max_position_embeddings=self.length,
            encoder_layers=params["n_layer"],
            encoder_ffn_dim=4 * params["n_embed"],
            d_model=params["n_embed"],
        )
        self.network = code.LDMBertModel(config)

    def inputs(self) -> tuple[Tensor, ...]:
        return (random_ids(self.vocabulary, self.length),)

    def forward(self, ids: Tensor) -> list[Tensor]:
        return [self.network(ids).last_hidden_state]

    def published_state(self) -> dict[str, Tensor]:
        return conditioning(bert_state(self.network))


class ClassEmbedder(nn.Module):
    """Class embedder: all classes (N,) -> (N, 1, D)."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        with _stub_modules():
            code = import_code("ldm.modules.encoders.modules")
        self.network = code.ClassEmbedder(**params)

    def inputs(self) -> tuple[Tensor, ...]:
        return (torch.arange(self.network.n_classes),)

    def forward(self, classes: Tensor) -> list[Tensor]:
        return [self.network({self.network.key: classes}, disable_dropout=True)]

    def published_state(self) -> dict[str, Tensor]:
        return conditioning(self.network.state_dict())


class Rescaler(nn.Module):
    """Rescaler: one-hot class map (1, K, H, W) -> (1, C, h, w)."""

    def __init__(self, params: Params, side: int) -> None:
        super().__init__()
        self.side, self.factor = side, 2 ** params["n_stages"]
        self.channel_mapper = nn.Conv2d(
            params["in_channels"], params["out_channels"], 1, bias=False
        )

    def inputs(self) -> tuple[Tensor, ...]:
        pixels, classes = self.side * self.factor, self.channel_mapper.in_channels
        labels = torch.randint(classes, (1, pixels, pixels), generator=torch.Generator())
        return (F.one_hot(labels, classes).movedim(-1, 1).float(),)

    def forward(self, maps: Tensor) -> list[Tensor]:
        weight = self.channel_mapper.weight[:, :, 0, 0]
        averaged = F.avg_pool2d(maps, self.factor)
        return [torch.einsum("ok,bkhw->bohw", weight, averaged)]

    def published_state(self) -> dict[str, Tensor]:
        return conditioning(self.state_dict())


class Clip(nn.Module):
    """Text encoder of Stable Diffusion: ids (1, T) -> (1, T, D)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        import transformers

        plain = {key: v for key, v in config.items() if key not in ("torch_dtype", "dtype")}
        self.config = transformers.CLIPTextConfig(**plain)
        self.network = transformers.CLIPTextModel(self.config)

    def inputs(self) -> tuple[Tensor, ...]:
        return (random_ids(self.config.vocab_size, self.config.max_position_embeddings),)

    def forward(self, ids: Tensor) -> list[Tensor]:
        return [self.network(ids).last_hidden_state]

    def published_state(self) -> dict[str, Tensor]:
        return conditioning(clip_state(self.network), "cond_stage_model.transformer.")


def conditioning(
    state: Mapping[str, Tensor], prefix: str = "cond_stage_model."
) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def import_code(module: str) -> Any:
    """Import a module of another project, untyped."""
    return importlib.import_module(module)


@contextlib.contextmanager
def _stub_modules() -> Iterator[None]:
    """Replace packages that the original code imports but does not use here: omegaconf's list type
    of its configurations, and open_clip's text encoders of other models."""
    lists = ModuleType("omegaconf.listconfig")
    lists.__dict__["ListConfig"] = tuple
    modules = {
        "omegaconf": ModuleType("omegaconf"),
        "omegaconf.listconfig": lists,
        "open_clip": ModuleType("open_clip"),
    }
    absent = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
