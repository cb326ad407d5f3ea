"""CompVis checkpoints with random weights: outputs of their networks, and their files."""

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
    conditioning,
    import_code,
)
from bench.full_size.finding import CPU

NOISE_STD = 0.02
SCALE_BY_STD = 0.37  # for the one checkpoint whose file holds the scaling factor of its latents
UNCONDITIONAL = ("__is_unconditional__", "__is_first_stage__")


@dataclass(frozen=True)
class Computed:
    """Number of parameters, inputs and outputs of a reference network."""

    parameters: int
    inputs: tuple[Tensor | None, ...]
    outputs: list[Tensor]


class Schedule:
    """Noise schedule buffers, as DDPM.register_schedule of the original code registers them."""

    def __init__(self, params: Params) -> None:
        make = import_code("ldm.modules.diffusionmodules.util").make_beta_schedule
        with CPU:  # real numbers, even if the networks are on the meta device
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

    def published_state(self) -> dict[str, Tensor]:
        return {name: torch.tensor(v, dtype=torch.float32) for name, v in self.buffers.items()}


class Original:
    """A model with random weights, and the content of its checkpoint file.

    `averaged`: True if the file holds averages of the UNet's weights, None to use `params`. `clip`:
    the configuration of the text encoder, if that is CLIP.
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
        self._first_stage_conditions = params["cond_stage_config"] == "__is_first_stage__"

    @torch.no_grad()
    def randomize_constants(self) -> None:
        """Add noise to parameters that are all zero or all one, so that they affect the output."""
        for network in self.networks.values():
            network.eval()
            for parameter in network.parameters():
                if parameter.min() == parameter.max():
                    parameter.add_(torch.randn_like(parameter), alpha=NOISE_STD)

    @torch.no_grad()
    def compute(self) -> dict[str, Computed]:
        """Return for each network, by name, its outputs for random inputs of the published size."""
        computed = {}
        for name, network in self.networks.items():
            parameters, inputs = sum(p.numel() for p in network.parameters()), network.inputs()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the code is older than torch
                computed[name] = Computed(parameters, inputs, network(*inputs))
        signal = torch.tensor(self.schedule.buffers["alphas_cumprod"])
        return computed | {"scheduler": Computed(0, (), [signal])}

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """Return the state dict of the file.

        If it holds averages, the weights in `networks` are changed afterwards: averages and weights
        must differ, or a test could not detect which of the two are read.
        """
        state = self.schedule.published_state() | self._buffers
        if self.averaged:
            unet = self.networks["unet"]
            average = import_code("ldm.modules.ema").LitEma(unet).state_dict()
            state |= {f"model_ema.{name}": tensor for name, tensor in average.items()}
            for parameter in unet.parameters():
                parameter.mul_(0.5)
        for network in self.networks.values():
            state |= network.published_state()
        if self._first_stage_conditions:
            state |= conditioning(self.networks["first_stage"].state_dict())
        return state

    def save(self, path: Path) -> None:
        torch.save({"epoch": 0, "global_step": 0, "state_dict": self.state()}, path)


def _conditioner(
    config: Any, side: int, clip: Mapping[str, Any] | None
) -> dict[str, Bert | ClassEmbedder | Rescaler | Clip]:
    """Return the conditioner by its folder name in our layout; Identity, for images, has none."""
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
    raise ValueError(f"{kind} is not the conditioner of a published model")


def _class(config: Params) -> tuple[str, Params]:
    """Return the name of the class, without its module, and its parameters."""
    return config["target"].rpartition(".")[2], config.get("params", {})
