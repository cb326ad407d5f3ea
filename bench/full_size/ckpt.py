"""A checkpoint of CompVis' with random weights: what its networks compute, and its file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.full_size.compvis import (
    Bert,
    ClassEmbedder,
    Clip,
    FirstStage,
    Params,
    Rescaler,
    UNet,
    code_of,
    conditioning,
)
from bench.full_size.finding import CPU

STIR = 0.02
SCALE_BY_STD = 0.37  # of the one checkpoint whose file says by what its latents are scaled
UNCONDITIONAL = ("__is_unconditional__", "__is_first_stage__")


@dataclass(frozen=True)
class Computed:
    """A reference network's parameters, what it was shown, and what it made of it."""

    parameters: int
    shown: tuple[Tensor | None, ...]
    outputs: list[Tensor]


class Schedule:
    """Signal after each step, as DDPM.register_schedule of the original code registers it."""

    def __init__(self, params: Params) -> None:
        make = code_of("ldm.modules.diffusionmodules.util").make_beta_schedule
        with CPU:  # numbers, even where the networks are only shapes
            betas = make(
                "linear", params["timesteps"], params["linear_start"], params["linear_end"]
            )
        kept = np.cumprod(1 - betas)
        before = np.append(1.0, kept[:-1])
        variance = betas * (1 - before) / (1 - kept)
        self.buffers = {
            "betas": betas,
            "alphas_cumprod": kept,
            "alphas_cumprod_prev": before,
            "sqrt_alphas_cumprod": np.sqrt(kept),
            "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - kept),
            "log_one_minus_alphas_cumprod": np.log(1 - kept),
            "sqrt_recip_alphas_cumprod": np.sqrt(1 / kept),
            "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / kept - 1),
            "posterior_variance": variance,
            "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
            "posterior_mean_coef1": betas * np.sqrt(before) / (1 - kept),
            "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - kept),
        }

    def spelled(self) -> dict[str, Tensor]:
        return {name: torch.tensor(v, dtype=torch.float32) for name, v in self.buffers.items()}


class Original:
    """A model with random weights, and everything that the file of its checkpoint holds.

    `averaged`: whether it holds averages of the UNet's weights, if not as `params` say. `clip`: the
    configuration of the text encoder, where that is CLIP.
    """

    def __init__(
        self, params: Params, averaged: bool | None = None, clip: Mapping[str, Any] | None = None
    ) -> None:
        side = params["image_size"]
        by_std = params.get("scale_by_std", False)
        self.scale = SCALE_BY_STD if by_std else params.get("scale_factor", 1.0)
        self.averaged = params.get("use_ema", True) if averaged is None else averaged
        kind, first_stage = _class(params["first_stage_config"])
        self.schedule = Schedule(params)
        self.networks: dict[str, Any] = {
            "unet": UNet(params["unet_config"]["params"], side),
            "first_stage": FirstStage(kind, first_stage, side, self.scale),
            **_conditioner(params["cond_stage_config"], side, clip),
        }
        self._buffers = {"scale_factor": torch.tensor(self.scale)} if by_std else {}
        self._seen_through = params["cond_stage_config"] == "__is_first_stage__"

    @torch.no_grad()
    def stir(self) -> None:
        """Weights that all matter: none begins as the zero or the one that it was made with."""
        for network in self.networks.values():
            network.eval()
            for parameter in network.parameters():
                if parameter.min() == parameter.max():
                    parameter.add_(torch.randn_like(parameter), alpha=STIR)

    @torch.no_grad()
    def compute(self) -> dict[str, Computed]:
        """What each network makes of random inputs of the published size, by its name."""
        computed = {}
        for name, network in self.networks.items():
            parameters, shown = sum(p.numel() for p in network.parameters()), network.shown()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the code is older than torch
                computed[name] = Computed(parameters, shown, network(*shown))
        signal = torch.tensor(self.schedule.buffers["alphas_cumprod"])
        return computed | {"scheduler": Computed(0, (), [signal])}

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """The state dict of the file. Where averages are in it, `networks` compute otherwise after:
        what they averaged must differ, or it would not show which of the two are read."""
        state = self.schedule.spelled() | self._buffers
        if self.averaged:
            unet = self.networks["unet"]
            average = code_of("ldm.modules.ema").LitEma(unet).state_dict()
            state |= {f"model_ema.{name}": tensor for name, tensor in average.items()}
            for parameter in unet.parameters():
                parameter.mul_(0.5)
        for network in self.networks.values():
            state |= network.spelled()
        if self._seen_through:
            state |= conditioning(self.networks["first_stage"].state_dict())
        return state

    def save(self, path: Path) -> None:
        torch.save({"epoch": 0, "global_step": 0, "state_dict": self.state()}, path)


def _conditioner(
    config: Any, side: int, clip: Mapping[str, Any] | None
) -> dict[str, Bert | ClassEmbedder | Rescaler | Clip]:
    """By the name of its folder in our layout; Identity is what an image is shown through."""
    if config in UNCONDITIONAL:
        return {}
    kind, params = _class(config)
    match kind:
        case "Identity":
            return {}
        case "BERTEmbedder":
            return {"bert": Bert(params)}
        case "ClassEmbedder":
            return {"class_embedder": ClassEmbedder(params)}
        case "SpatialRescaler":
            return {"rescaler": Rescaler(params, side)}
        case "FrozenCLIPEmbedder" if clip is not None:
            return {"text_encoder": Clip(clip)}
    raise ValueError(f"{kind} is nothing that a published model is conditioned by")


def _class(config: Params) -> tuple[str, Params]:
    """Which class, without its module, and with what."""
    return config["target"].rpartition(".")[2], config.get("params", {})
