"""One denoising step for many images at once, each with its own sampler, step count and guidance.

A `DenoisingState` holds one image between noise and finished latents: its sampler table, the row it
has reached, its latents and its conditioning. States of any sampler, step count, strength and
guidance scale share a step, because a step is the same few affine operations for all of them and
only the coefficients differ. Latents stay float32 throughout; the network gets its own dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Protocol

import torch
from torch import Tensor

from models.denoising.masks import MaskedContent, first_rows
from models.denoising.noise import ImageNoise
from models.denoising.slot_update import SlotUpdate, guided_output, slot_update
from models.networks.controlnet import ControlNet
from models.networks.unet import AddedConditioning
from models.samplers.table import HISTORY, SamplerTable

# The column of the weight on the network's output, in the result of `coefficients_of`.
_PREDICT_OUTPUT = 5


@dataclass(frozen=True)
class Conditioning:
    """Conditioning of the network: context (T, D), None for a network without cross-attention.

    For SDXL also pooled text (P,) and time_ids: (6,) of sizes and crop, or (5,) for the refiner.
    For networks distilled with guidance also the embedded guidance scale (G,), and for those with
    labels the number of one, ().
    """

    context: Tensor | None
    pooled: Tensor | None = None
    time_ids: Tensor | None = None
    guidance: Tensor | None = None
    label: Tensor | None = None


@dataclass(frozen=True)
class Known:
    """The part of an inpainted image that must stay.

    mask (1, h, w) is 1 where the image is inpainted. latents and noise are (C, h, w): the clean
    latents of the given image and the initial noise, whose mixture is known at every noise level.
    Of a soft mask, first_rows (1, h, w) are the rows of the table from which on each latent is
    generated; `mask` is its strengths then.
    """

    mask: Tensor
    latents: Tensor
    noise: Tensor
    first_rows: Tensor | None = None

    def mask_at(self, row: int) -> Tensor:
        """Return 1 where row `row` generates the image, 0 where it is known."""
        return self.mask if self.first_rows is None else (self.first_rows <= row).to(self.mask)


@dataclass(frozen=True)
class Control:
    """A ControlNet and the embedding (C0, h, w) of its control image.

    Its residuals are multiplied by `weight` and added at the steps that lie completely within
    `interval`, two shares of the steps.
    """

    net: ControlNet
    hint: Tensor
    weight: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Controls:
    """ControlNets of a batch of N rows.

    hints: (N, C0, h, w) for each net; weights: (N, nets).
    """

    nets: tuple[ControlNet, ...]
    hints: tuple[Tensor, ...]
    weights: Tensor


@dataclass(frozen=True)
class Predictions:
    """The network's outputs (N, C, h, w) for a batch of N images.

    positive: with the prompt; negative: with the negative prompt; blank: with the negative prompt
    and no concat conditioning. An image that is not guided by one of them has the one before in its
    place.
    """

    positive: Tensor
    negative: Tensor
    blank: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.positive, self.negative, self.blank


class Denoiser(Protocol):
    """The network of a step.

    x (N, C, h, w), timestep (N,), context (N, T, D) or None, the added conditioning of SDXL, the
    ControlNets if there are any -> output (N, C, h, w).
    """

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
    """One image during denoising.

    x is (C, h, w) in the space of the sampler; history (HISTORY, C, h, w) holds its latest
    predictions, newest first. `negative` None means unguided: one network row instead of two.
    concat (K, h, w) are further channels of the network's input, the same at every step. The
    ControlNets of `controls` act on both rows, except in guess mode. Guidance is applied within
    `guidance_interval`, two shares of the rows, because it matters least at both ends (Kynkäänniemi
    et al. 2024, "Applying Guidance in a Limited Interval"). `guidance_rescale` in [0, 1] pulls the
    standard deviation of the guided output towards that of the output with the prompt: Lin et al.
    2023, section 3.4. A guided image whose `image_guidance_scale` is not 1 is also guided by its
    concat conditioning, which takes a third network row (Brooks et al. 2023, section 3.2.1).
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
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    controls: tuple[Control, ...] = ()
    image_guidance_scale: float = 1.0
    row: int = 0

    def __post_init__(self) -> None:
        self.history = self.x.new_zeros((HISTORY, *self.x.shape))
        self._last_noise: Tensor | None = None

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
        soft_mask: bool = False,
        content: MaskedContent | None = None,
        noise_multiplier: float = 1.0,
        negative: Conditioning | None = None,
        guidance_scale: float = 1.0,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        controls: tuple[Control, ...] = (),
        image_guidance_scale: float = 1.0,
    ) -> DenoisingState:
        """Return a state at row 0: the initial noise, mixed with the `source` latents if given.

        `content` replaces the source where it is marked, and the initial noise is multiplied by
        `noise_multiplier`. Both change the start only, not the known region.
        """
        unit = noise.sample(device)
        x = table.start_noise * noise_multiplier * unit
        known = None
        if source is not None:
            held = source if content is None else content.replace(source, unit)
            x = x + table.start_signal * held
        if mask is not None and source is not None:
            rows = first_rows(mask, table) if soft_mask else None
            known = Known(mask, source, unit, rows)
        return cls(
            table,
            x,
            noise,
            positive,
            negative,
            guidance_scale,
            guidance_rescale,
            known=known,
            guidance_interval=guidance_interval,
            controls=controls,
            image_guidance_scale=image_guidance_scale,
        )

    @property
    def steps(self) -> int:
        """Return the number of evaluations of the network, from row 0 to the end."""
        return len(self.table)

    @property
    def context_length(self) -> int:
        """Return the context length of its rows in a step without longer prompts; 0 without any."""
        both = [self.positive] + ([] if self.negative is None else [self.negative])
        return lcm(*(0 if c.context is None else c.context.shape[0] for c in both))

    @property
    def done(self) -> bool:
        return self.row >= self.steps

    @property
    def guidance(self) -> Conditioning | None:
        """Return the negative conditioning if this row is guided."""
        first, last = self.guidance_interval
        return self.negative if first <= self.row / self.steps < last else None

    @property
    def is_guided_by_image(self) -> bool:
        """Return True if this row is guided by the concat conditioning, too."""
        return self.guidance is not None and self.image_guidance_scale != 1.0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of its latents in a row of the network."""
        return tuple(self.x.shape)

    @property
    def evaluations_left(self) -> int:
        """Return the rows of the table, and of a tiled image their tiles, that are left."""
        return self.steps - self.row

    @property
    def runs_left(self) -> int:
        """Return the number of runs of the network that are left."""
        return self.evaluations_left

    @property
    def ends_row(self) -> bool:
        """Return True if the next run of the network completes the row."""
        return True

    @property
    def active_controls(self) -> tuple[Control, ...]:
        """Return the controls of this row; only states with the same nets can share a step."""
        begun, ended = self.row / self.steps, (self.row + 1) / self.steps
        return tuple(c for c in self.controls if c.interval[0] <= begun and ended <= c.interval[1])

    @property
    def guess_mode(self) -> bool:
        """Return True if all its ControlNets pool their residuals.

        They then act on the row with the prompt only, as in the pipelines of diffusers.
        """
        return all(control.net.pools for control in self.controls)

    def fresh_noise(self) -> Tensor:
        """Return the new noise of this row plus the carried share of the noise of the row before.

        Noise is sampled only for rows that use it: a seed fixes the order of samples.
        """
        if not self.table.noise[self.row]:
            return torch.zeros_like(self.x)
        before, self._last_noise = self._last_noise, self.noise.sample(self.x.device)
        carried = float(self.table.carried_noise[self.row])
        if not carried or before is None:
            return self._last_noise
        return self._last_noise + carried * before

    @property
    def rows(self) -> int:
        """Return the number of rows of this image in the next batch of the network."""
        return self.least_rows

    @property
    def least_rows(self) -> int:
        """Return the number of rows that cannot be divided: of one image or tile."""
        return 1 + (self.guidance is not None) + self.is_guided_by_image


@torch.inference_mode()
def advance(
    denoise: Denoiser,
    batch: list[DenoisingState],
    dtype: torch.dtype,
    update: SlotUpdate = slot_update,
) -> None:
    """Advance every state of `batch` by one row, in place.

    All must share the latent shape and the active ControlNets. Raises ValueError for ControlNets
    that differ.
    """
    x = torch.stack([t.x for t in batch])
    coefficients = coefficients_of(batch, x)
    predictions = predict(denoise, batch, x, coefficients, dtype)
    advance_with(batch, x, coefficients, predictions, update)


def predict(
    denoise: Denoiser,
    batch: list[DenoisingState],
    x: Tensor,
    coefficients: Tensor,
    dtype: torch.dtype,
) -> Predictions:
    """Return the network's outputs for the latents x (N, C, h, w) of the states.

    The network runs once, on the positive rows of all images, followed by the negative rows of
    those that are guided and the blank rows of those that are guided by an image.
    """
    timestep, scale = coefficients[:, 0], coefficients[:, 1, None, None, None]
    guided = [i for i, t in enumerate(batch) if t.guidance is not None]
    by_image = [i for i in guided if batch[i].is_guided_by_image]
    order = [*range(len(batch)), *guided, *by_image]
    unprompted = [batch[i].guidance for i in (*guided, *by_image)]
    rows = [t.positive for t in batch] + [c for c in unprompted if c is not None]
    inputs = _inputs(batch, scale * x)[order]
    inputs[len(order) - len(by_image) :, x.shape[1] :] = 0
    output = denoise(
        inputs.to(dtype),
        timestep[order],
        _contexts(rows, batch, dtype),
        _added(rows),
        _controls([batch[i] for i in order], len(batch), dtype),
    )
    positive, negative, blank = output.split([len(batch), len(guided), len(by_image)])
    negative = _replaced(positive, guided, negative)
    return Predictions(positive, negative, _replaced(negative, by_image, blank))


def _replaced(all_rows: Tensor, places: list[int], rows: Tensor) -> Tensor:
    """Return `all_rows` with `rows` at `places`, without a copy if there are none."""
    if not places:
        return all_rows
    replaced = all_rows.clone()
    replaced[places] = rows
    return replaced


def advance_with(
    batch: list[DenoisingState],
    x: Tensor,
    coefficients: Tensor,
    predictions: Predictions,
    update: SlotUpdate,
) -> None:
    """Advance every state of `batch` by one row, in place, by the network's outputs for it.

    `coefficients` are used up.
    """
    history = torch.stack([t.history for t in batch])
    _rescale(coefficients, predictions, batch)
    fresh = torch.stack([t.fresh_noise() for t in batch])
    known = [t.known or _nothing_known(t.x) for t in batch]
    mask = torch.stack([k.mask_at(t.row) for k, t in zip(known, batch, strict=True)])
    latents = torch.stack([k.latents for k in known])
    noise = torch.stack([k.noise for k in known])
    x, history = update(
        x, *predictions.tensors, history, fresh, mask, latents, noise, coefficients[:, 2:]
    )
    for i, state in enumerate(batch):
        state.x, state.history = x[i], history[i]
        state.row += 1


def coefficients_of(batch: list[DenoisingState], like: Tensor) -> Tensor:
    """Return timestep, input scale and the columns of `slot_update` for each state's current row.

    From the tables' float64 to the batch's device and dtype in one transfer.
    """
    names = ("predict_x", "predict_output", "keep_x", "noise", "known_signal", "known_noise")
    rows = []
    for t in batch:
        first = (t.table.timestep[t.row], t.table.input_scale[t.row])
        guidance = (t.guidance_scale, t.image_guidance_scale)
        columns = (getattr(t.table, name)[t.row] for name in names)
        rows.append([*first, *guidance, *columns, *t.table.history[t.row]])
    return torch.tensor(rows, dtype=torch.float64).to(like)


def _inputs(batch: list[DenoisingState], x: Tensor) -> Tensor:
    """Return the scaled latents, followed by the further input channels if there are any."""
    further = [t.concat for t in batch if t.concat is not None]
    return torch.cat([x, torch.stack(further)], dim=1) if further else x


def _rescale(coefficients: Tensor, predictions: Predictions, batch: list[DenoisingState]) -> None:
    """Rescale the guidance of images that request it: Lin et al. 2023, equations 15 and 16.

    The guided output gets the standard deviation of the output with the prompt. The factor is
    multiplied into the output's coefficient, so the slot update does not change. One image at a
    time, because a sum over several could be added in another order.
    """
    for i, t in enumerate(batch):
        if t.guidance is None or not t.guidance_rescale:
            continue
        positive, negative, blank = (output[i].float() for output in predictions.tensors)
        scales = (t.guidance_scale, t.image_guidance_scale)
        guided = guided_output(positive, negative, blank, *scales)
        share = t.guidance_rescale
        ratio = positive.std() / guided.std()
        coefficients[i, _PREDICT_OUTPUT] *= share * ratio + (1.0 - share)


def _contexts(
    rows: list[Conditioning], batch: list[DenoisingState], dtype: torch.dtype
) -> Tensor | None:
    """Stack contexts to (N, T, D); shorter ones are repeated as a whole to the common length.

    Attention over a context repeated k times is the attention over the context: every weight
    is split in k equal parts. So prompts of any length share a batch without a mask.
    """
    length = lcm(*{t.context_length for t in batch})
    contexts = [c.context for c in rows if c.context is not None]
    if not contexts:
        return None
    return torch.stack([c.repeat(length // c.shape[0], 1) for c in contexts]).to(dtype)


def _added(rows: list[Conditioning]) -> AddedConditioning | None:
    added = AddedConditioning(
        _stacked([c.pooled for c in rows]),
        _stacked([c.time_ids for c in rows]),
        _stacked([c.guidance for c in rows]),
        _stacked([c.label for c in rows]),
    )
    return added if added.tensors else None


def _stacked(optional: list[Tensor | None]) -> Tensor | None:
    """Stack tensors as rows of one; with one model, all rows have the tensor or none has."""
    tensors = [tensor for tensor in optional if tensor is not None]
    return torch.stack(tensors) if tensors else None


def _controls(rows: list[DenoisingState], positive: int, dtype: torch.dtype) -> Controls | None:
    """Return the ControlNets of the rows, of which the first `positive` are not negative ones."""
    by_row = [t.active_controls for t in rows]
    nets = {tuple(control.net for control in controls) for controls in by_row}
    if nets == {()}:
        return None
    if len(nets) > 1:
        raise ValueError("images with different ControlNets cannot share a step")
    by_net = zip(*by_row, strict=True)
    hints = (torch.stack([control.hint for control in of]).to(dtype) for of in by_net)
    weights = [
        [0.0 if row >= positive and t.guess_mode else control.weight for control in controls]
        for row, (t, controls) in enumerate(zip(rows, by_row, strict=True))
    ]
    return Controls(nets.pop(), tuple(hints), torch.tensor(weights).to(rows[0].x))


def _nothing_known(x: Tensor) -> Known:
    return Known(torch.ones_like(x[:1]), torch.zeros_like(x), torch.zeros_like(x))
