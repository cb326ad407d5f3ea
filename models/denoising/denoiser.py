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

from models.denoising.noise import ImageNoise
from models.denoising.slot_update import SlotUpdate, slot_update
from models.networks.controlnet import ControlNet
from models.networks.unet import AddedConditioning
from models.samplers.table import HISTORY, SamplerTable

# The column of the weight on the network's output, in what `_coefficients` gives.
_PREDICT_OUTPUT = 4


@dataclass(frozen=True)
class Conditioning:
    """What the network is told: context (T, D), None for a network without attention to any.

    For SDXL also pooled text (P,) and time_ids (6,) or (5,): sizes and crop, or the refiner's.
    Networks distilled with guidance: how strong that is, embedded (G,).
    """

    context: Tensor | None
    pooled: Tensor | None = None
    time_ids: Tensor | None = None
    guidance: Tensor | None = None


@dataclass(frozen=True)
class Known:
    """The part of an inpainted image that must stay.

    mask (1, h, w) is 1 where the image is repainted; latents and noise are (C, h, w): the clean
    latents of the given image and the initial noise, whose mix is known at every noise level.
    """

    mask: Tensor
    latents: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Control:
    """A ControlNet and the hint (C0, h, w) that it made of its picture.

    What it says is multiplied by `weight`, and heard at the steps that lie between the two shares
    of `between` from beginning to end.
    """

    net: ControlNet
    hint: Tensor
    weight: float = 1.0
    between: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Controls:
    """The ControlNets that a batch of N rows hears, their hints, each (N, C0, h, w), and the
    weights of what they say (N, nets)."""

    nets: tuple[ControlNet, ...]
    hints: tuple[Tensor, ...]
    weights: Tensor


class Denoiser(Protocol):
    """The network: x (N, C, h, w), timestep (N,), context (N, T, D) or None, what SDXL adds, the
    ControlNets if there are any -> output (N, C, h, w)."""

    def __call__(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None,
        added: AddedConditioning | None,
        controls: Controls | None,
    ) -> Tensor: ...


@dataclass(eq=False)
class DenoisingState:
    """One image on its way.

    x is (C, h, w) in the space of the sampler; history (HISTORY, C, h, w) holds its latest
    predictions, newest first. `negative` None means unguided: one network row instead of two.
    concat (K, h, w) are further channels of the network's input, the same at every step. Both rows
    are told by the ControlNets of `controls`. Guidance is applied from the first to the second of
    `guided_between`, as shares of the rows: at the ends it matters least (Kynkäänniemi et al.
    2024, "Applying Guidance in a Limited Interval"). `guidance_rescale` in [0, 1] keeps what is
    guided as strong as what the prompt alone gives: Lin et al. 2023, section 3.4.
    """

    table: SamplerTable
    x: Tensor
    noise: ImageNoise
    positive: Conditioning
    negative: Conditioning | None = None
    guidance_scale: float = 1.0
    guidance_rescale: float = 0.0
    concat: Tensor | None = None
    known: Known | None = None
    guided_between: tuple[float, float] = (0.0, 1.0)
    controls: tuple[Control, ...] = ()
    row: int = 0

    def __post_init__(self) -> None:
        self.history = self.x.new_zeros((HISTORY, *self.x.shape))
        self._drawn: Tensor | None = None

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
        guidance_rescale: float = 0.0,
        guided_between: tuple[float, float] = (0.0, 1.0),
        controls: tuple[Control, ...] = (),
    ) -> DenoisingState:
        """At row 0: the image's initial noise, mixed with the `source` latents it starts from."""
        unit = noise.draw(device)
        x = table.start_noise * unit
        known = None
        if source is not None:
            x = x + table.start_signal * source
        if mask is not None and source is not None:
            known = Known(mask, source, unit)
        return cls(
            table,
            x,
            noise,
            positive,
            negative,
            guidance_scale,
            guidance_rescale,
            known=known,
            guided_between=guided_between,
            controls=controls,
        )

    @property
    def steps(self) -> int:
        """Evaluations of the network, from row 0 to the end."""
        return len(self.table)

    @property
    def context_length(self) -> int:
        """Tokens of context that its rows need, where a step has no longer prompts than its own;
        0 without any."""
        said = [self.positive] + ([] if self.negative is None else [self.negative])
        return lcm(*(0 if c.context is None else c.context.shape[0] for c in said))

    @property
    def done(self) -> bool:
        return self.row >= self.steps

    @property
    def guidance(self) -> Conditioning | None:
        """What this row is guided away from, if it is."""
        first, last = self.guided_between
        return self.negative if first <= self.row / self.steps < last else None

    @property
    def heard(self) -> tuple[Control, ...]:
        """The controls that this row hears; only trajectories that hear the same nets can share
        a step."""
        begun, ended = self.row / self.steps, (self.row + 1) / self.steps
        return tuple(c for c in self.controls if c.between[0] <= begun and ended <= c.between[1])

    def fresh_noise(self) -> Tensor:
        """What this row draws, and what it carries on of what the row before drew.

        Drawn only where the row asks for it: the order of draws is part of the recipe.
        """
        if not self.table.noise[self.row]:
            return torch.zeros_like(self.x)
        before, self._drawn = self._drawn, self.noise.draw(self.x.device)
        carried = float(self.table.carried_noise[self.row])
        return self._drawn + carried * before if carried and before is not None else self._drawn

    @property
    def rows(self) -> int:
        """Rows this image takes in the next batch of the network."""
        return 1 if self.guidance is None else 2


@torch.inference_mode()
def advance(
    denoise: Denoiser,
    batch: list[DenoisingState],
    dtype: torch.dtype,
    update: SlotUpdate = slot_update,
) -> None:
    """Take every trajectory of `batch` one row further. All must share the latent shape, and hear
    the same ControlNets."""
    x = torch.stack([t.x for t in batch])
    coefficients = _coefficients(batch, x)
    timestep, scale = coefficients[:, 0], coefficients[:, 1, None, None, None]
    positive, negative = _predictions(denoise, batch, _inputs(batch, scale * x), timestep, dtype)
    history = torch.stack([t.history for t in batch])
    _rescale(coefficients, positive, negative, batch)
    fresh = torch.stack([t.fresh_noise() for t in batch])
    known = [t.known or _nothing_known(t.x) for t in batch]
    mask = torch.stack([k.mask for k in known])
    latents = torch.stack([k.latents for k in known])
    noise = torch.stack([k.noise for k in known])
    x, history = update(
        x, positive, negative, history, fresh, mask, latents, noise, coefficients[:, 2:]
    )
    for i, trajectory in enumerate(batch):
        trajectory.x, trajectory.history = x[i], history[i]
        trajectory.row += 1


def _coefficients(batch: list[DenoisingState], like: Tensor) -> Tensor:
    """Timestep, input scale and what `slot_update` takes of each trajectory's current row.

    From the tables' float64 to the batch's device and dtype in one transfer.
    """
    names = ("predict_x", "predict_output", "keep_x", "noise", "known_signal", "known_noise")
    rows = []
    for t in batch:
        first = (t.table.timestep[t.row], t.table.input_scale[t.row], t.guidance_scale)
        columns = (getattr(t.table, name)[t.row] for name in names)
        rows.append([*first, *columns, *t.table.history[t.row]])
    return torch.tensor(rows, dtype=torch.float64).to(like)


def _inputs(batch: list[DenoisingState], x: Tensor) -> Tensor:
    """The scaled latents, and after them whatever else the network is shown."""
    further = [t.concat for t in batch if t.concat is not None]
    return torch.cat([x, torch.stack(further)], dim=1) if further else x


def _predictions(
    denoise: Denoiser, batch: list[DenoisingState], x: Tensor, timestep: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """What the network says with and without the prompt; twice the same where unguided.

    The network runs once, for all images and then once more for those that are guided.
    """
    guided = [i for i, t in enumerate(batch) if t.guidance is not None]
    order = [*range(len(batch)), *guided]
    said = [t.positive for t in batch] + [n for i in guided if (n := batch[i].guidance)]
    output = denoise(
        x[order].to(dtype),
        timestep[order],
        _contexts(said, batch, dtype),
        _added(said),
        _controls([batch[i] for i in order], dtype),
    )
    positive = output[: len(batch)]
    if not guided:
        return positive, positive
    negative = positive.clone()
    negative[guided] = output[len(batch) :]
    return positive, negative


def _rescale(
    coefficients: Tensor, positive: Tensor, negative: Tensor, batch: list[DenoisingState]
) -> None:
    """Guidance rescaled, of those pictures that ask for it: Lin et al. 2023, equations 15 and 16.

    What is guided is to have the standard deviation of what was said with the prompt. To weigh the
    output is to weigh its coefficient, so the update of the slots need not know. One picture at a
    time: a sum over several may be added up in another order.
    """
    for i, t in enumerate(batch):
        if t.guidance is None or not t.guidance_rescale:
            continue
        said, unsaid = positive[i].float(), negative[i].float()
        strong = unsaid + t.guidance_scale * (said - unsaid)
        share = t.guidance_rescale
        coefficients[i, _PREDICT_OUTPUT] *= share * (said.std() / strong.std()) + (1.0 - share)


def _contexts(
    said: list[Conditioning], batch: list[DenoisingState], dtype: torch.dtype
) -> Tensor | None:
    """(N, T, D), with contexts of several lengths brought to one length by repeating them whole.

    Attention over a context repeated k times is the attention over the context: every weight
    is split in k equal parts. So prompts of any length share a batch without a mask.
    """
    length = lcm(*{t.context_length for t in batch})
    contexts = [c.context for c in said if c.context is not None]
    if not contexts:
        return None
    return torch.stack([c.repeat(length // c.shape[0], 1) for c in contexts]).to(dtype)


def _added(said: list[Conditioning]) -> AddedConditioning | None:
    added = AddedConditioning(
        _stacked([c.pooled for c in said]),
        _stacked([c.time_ids for c in said]),
        _stacked([c.guidance for c in said]),
    )
    return added if added.tensors else None


def _stacked(of_each: list[Tensor | None]) -> Tensor | None:
    """As rows of one tensor; of one model, all have it or none."""
    there = [tensor for tensor in of_each if tensor is not None]
    return torch.stack(there) if there else None


def _controls(rows: list[DenoisingState], dtype: torch.dtype) -> Controls | None:
    heard = [t.heard for t in rows]
    nets = {tuple(control.net for control in controls) for controls in heard}
    if nets == {()}:
        return None
    if len(nets) > 1:
        raise ValueError("pictures that hear different ControlNets cannot share a step")
    hints = (
        torch.stack([control.hint for control in of]).to(dtype) for of in zip(*heard, strict=True)
    )
    weights = [[control.weight for control in controls] for controls in heard]
    return Controls(nets.pop(), tuple(hints), torch.tensor(weights).to(rows[0].x))


def _nothing_known(x: Tensor) -> Known:
    return Known(torch.ones_like(x[:1]), torch.zeros_like(x), torch.zeros_like(x))
