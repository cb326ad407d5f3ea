"""One denoising step for many images at once, each on its own trajectory.

A trajectory is one image's way from noise to latents: its sampler table, the row it has reached,
its latents and its conditioning. Trajectories of any sampler, step count, strength and guidance
scale share a step, because a step is the same few affine operations for all of them and only
the coefficients differ. Latents stay float32 throughout; the network sees its own dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Protocol

import torch
from torch import Tensor

from models.noise import ImageNoise
from models.samplers.table import HISTORY, SamplerTable
from models.unet import AddedConditioning


@dataclass(frozen=True)
class Conditioning:
    """What a prompt says to the network: context (T, D), and for SDXL pooled (P,)."""

    context: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True)
class Known:
    """The part of an inpainted image that must stay.

    mask (1, h, w) is 1 where the image is repainted; latents and noise are (C, h, w): the clean
    latents of the given image and the initial noise, whose mix is known at every noise level.
    """

    mask: Tensor
    latents: Tensor
    noise: Tensor


class Denoiser(Protocol):
    """The network: x (N, C, h, w), timestep (N,), context (N, T, D) -> output (N, C, h, w)."""

    def __call__(
        self, x: Tensor, timestep: Tensor, context: Tensor, added: AddedConditioning | None
    ) -> Tensor: ...


@dataclass(eq=False)
class Trajectory:
    """One image on its way.

    x is (C, h, w) in the space of the sampler; history (HISTORY, C, h, w) holds its latest
    predictions, newest first. `negative` None means unguided: one network row instead of two.
    time_ids (6,) are SDXL's size and crop.
    """

    table: SamplerTable
    x: Tensor
    noise: ImageNoise
    positive: Conditioning
    negative: Conditioning | None = None
    guidance_scale: float = 1.0
    time_ids: Tensor | None = None
    known: Known | None = None
    row: int = 0

    def __post_init__(self) -> None:
        self.history = self.x.new_zeros((HISTORY, *self.x.shape))

    @classmethod
    def start(
        cls,
        table: SamplerTable,
        noise: ImageNoise,
        device: torch.device,
        positive: Conditioning,
        *,
        source: Tensor | None = None,
        mask: Tensor | None = None,
        negative: Conditioning | None = None,
        guidance_scale: float = 1.0,
        time_ids: Tensor | None = None,
    ) -> Trajectory:
        """At row 0: the image's initial noise, mixed with the `source` latents it starts from."""
        unit = noise.draw(device)
        x = table.start_noise * unit
        known = None
        if source is not None:
            x = x + table.start_signal * source
        if mask is not None and source is not None:
            known = Known(mask, source, unit)
        return cls(
            table, x, noise, positive, negative, guidance_scale, time_ids=time_ids, known=known
        )

    @property
    def steps(self) -> int:
        """Evaluations of the network, from row 0 to the end."""
        return len(self.table)

    @property
    def context_length(self) -> int:
        """Tokens of context that its rows need, where a step has no longer prompts than its own."""
        said = [self.positive] + ([] if self.negative is None else [self.negative])
        return lcm(*(c.context.shape[0] for c in said))

    @property
    def done(self) -> bool:
        return self.row >= self.steps

    @property
    def rows(self) -> int:
        """Rows this image takes in a batch of the network."""
        return 1 if self.negative is None else 2


@torch.inference_mode()
def advance(denoise: Denoiser, batch: list[Trajectory], dtype: torch.dtype) -> None:
    """Take every trajectory of `batch` one row further. All must share the latent shape."""
    x = torch.stack([t.x for t in batch])
    rows = _coefficients(batch, x)
    output = _guided(denoise, batch, rows.input_scale * x, rows.timestep.flatten(), dtype)
    prediction = rows.predict_x * x + rows.predict_output * output
    earlier = torch.stack([t.history for t in batch])[:, : HISTORY - 1]
    history = torch.cat([prediction[:, None], earlier], dim=1)
    x = rows.keep_x * x
    for k in range(HISTORY):  # one after another: a sum's order may depend on the batch
        x = x + rows.history[:, k] * history[:, k]
    for i, trajectory in enumerate(batch):
        trajectory.history = history[i]
        trajectory.x = _keep_known(trajectory, _add_noise(trajectory, x[i]))
        trajectory.row += 1


@dataclass(frozen=True)
class _Coefficients:
    """The current row of each trajectory: (B, 1, 1, 1), the history's (B, HISTORY, 1, 1, 1)."""

    timestep: Tensor
    input_scale: Tensor
    predict_x: Tensor
    predict_output: Tensor
    keep_x: Tensor
    history: Tensor


def _coefficients(batch: list[Trajectory], like: Tensor) -> _Coefficients:
    """The tables' float64 rows, brought to the batch's device and dtype in one transfer."""
    names = ("timestep", "input_scale", "predict_x", "predict_output", "keep_x")
    rows = [
        [*(getattr(t.table, name)[t.row] for name in names), *t.table.history[t.row]] for t in batch
    ]
    table = torch.tensor(rows, dtype=torch.float64).to(like)
    timestep, scale, from_x, from_output, keep = table[:, :5, None, None, None].unbind(1)
    history = table[:, 5:, None, None, None]
    return _Coefficients(timestep, scale, from_x, from_output, keep, history)


def _guided(
    denoise: Denoiser, batch: list[Trajectory], x: Tensor, timestep: Tensor, dtype: torch.dtype
) -> Tensor:
    """Network output with classifier-free guidance per image (Ho & Salimans 2022, equation 6).

    The network runs once, for all images and then once more for those that are guided.
    """
    guided = [i for i, t in enumerate(batch) if t.negative is not None]
    order = [*range(len(batch)), *guided]
    said = [t.positive for t in batch] + [n for i in guided if (n := batch[i].negative)]
    output = denoise(
        x[order].to(dtype), timestep[order], _contexts(said).to(dtype), _added(batch, order, said)
    ).float()
    positive = output[: len(batch)]
    if not guided:
        return positive
    negative = positive.clone()
    negative[guided] = output[len(batch) :]
    scale = torch.tensor([t.guidance_scale for t in batch]).to(positive)
    return negative + scale[:, None, None, None] * (positive - negative)


def _contexts(said: list[Conditioning]) -> Tensor:
    """(N, T, D), with contexts of several lengths brought to one length by repeating them whole.

    Attention over a context repeated k times is the attention over the context: every weight
    is split in k equal parts. So prompts of any length share a batch without a mask.
    """
    length = lcm(*{c.context.shape[0] for c in said})
    return torch.stack([c.context.repeat(length // c.context.shape[0], 1) for c in said])


def _added(
    batch: list[Trajectory], order: list[int], said: list[Conditioning]
) -> AddedConditioning | None:
    pooled = [c.pooled for c in said if c.pooled is not None]
    ids = [t for i in order if (t := batch[i].time_ids) is not None]
    if not pooled or not ids:
        return None
    return AddedConditioning(torch.stack(pooled), torch.stack(ids))


def _add_noise(trajectory: Trajectory, x: Tensor) -> Tensor:
    weight = float(trajectory.table.noise[trajectory.row])
    return x + weight * trajectory.noise.draw(x.device) if weight else x


def _keep_known(trajectory: Trajectory, x: Tensor) -> Tensor:
    """Put the known region back, at the noise level that the row has led to."""
    known, table, row = trajectory.known, trajectory.table, trajectory.row
    if known is None:
        return x
    signal, noise = float(table.known_signal[row]), float(table.known_noise[row])
    kept = signal * known.latents + noise * known.noise
    return known.mask * x + (1 - known.mask) * kept
