"""Card and licences of the bundled model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Self

from torch import nn

from models.conditioners.clip import text_stages
from models.pipeline import LatentDiffusion
from training.icons.sets import (
    ICON_SETS,
    Attribution,
    labels_folder,
    read_attribution,
    read_labels_attribution,
    set_folder,
)

_LICENCES = """# Licences and attributions of the training data

The bundled model was trained on the emoji art below, each set under its own licence. They were
rendered to small images; the art itself is not part of this folder. The weights are
published under this project's licence, as far as rights in them exist.

{entries}
"""

_ENTRY = """## {title}

- Author: {author} <{author_url}>
- Licence: {licence} <{licence_url}>
- npm package: `{package}` {version}
- Changes: rendered at {size}×{size} pixels on white; skin-tone variants left out
"""

_LABELS_ENTRY = """## {title}

- Author: {author}
- Licence: {licence} <{licence_url}>
- npm package: `{package}` {version}
- Use: names and tags of the emoji, as captions
"""

_CARD = """# The bundled model

A small latent diffusion model (Rombach et al. 2022) that generates emoji of {size}×{size} pixels
from English prompts such as `red heart`, `pizza` or `crescent moon`. It is in the published
diffusers layout and loads in diffusers as a `StableDiffusionPipeline`.

| part | parameters |
|---|---|
| UNet | {unet_parameters:,} |
| autoencoder (4× smaller sides, 4 channels) | {autoencoder_parameters:,} |
| text encoder (CLIP-shaped, own vocabulary of {vocabulary:,}) | {text_parameters:,} |

## How it was trained

`python -m training data`, `autoencoder`, `diffusion`, `decoder`, `export`, on two CPU cores shared
with other work, in bfloat16. Data: {images:,} images of seven openly licensed emoji sets (see
[LICENSES.md](LICENSES.md)), captioned with their names, synonyms, tags and a word for the style.
Everyday emoji, most of all a short list of favourites, and the plainest style were sampled most
(`training/icons/everyday.py`, `training/icons/captions.py`), because the run was short.

| stage | steps | batch | images seen | measured at the end |
|---|---|---|---|---|
| autoencoder, KL and patch discriminator | {first.steps:,} | {first.batch} | {first.seen:,} | \
mean absolute error {l1:.4f} in [-1, 1] |
| diffusion, v-prediction, EMA 0.998 | {second.steps:,} | {second.batch} | {second.seen:,} | \
mean squared error of v {loss:.4f} |
| decoder alone, on the same latents | {third.steps:,} | {third.batch} | {third.seen:,} | \
mean absolute error {third_l1:.4f} |

Averages are over the last {window} logged steps. The sampling weights of images and
timesteps, the learning rate and the averaging were tuned while the diffusion stage ran; the code
has their last values.

## Limits

It generates the emoji it was trained on and little else: no scenes, no counting, no lettering.
Favourites are recognisable; rarer emoji often only in colour and outline. Other sizes than
{size}×{size} were never trained. A guidance scale of 3 to 6 and 20 steps work well.
"""

_WINDOW = 25


@dataclass(frozen=True)
class StageRecord:
    """Steps, batch size and averaged last losses of a stage, from its log."""

    steps: int
    batch: int
    losses: dict[str, float]

    @property
    def seen(self) -> int:
        return self.steps * self.batch

    @classmethod
    def read(cls, log: Path, batch: int) -> Self:
        """Read `log.jsonl`. Raises FileNotFoundError before the stage has run."""
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        last = lines[-_WINDOW:]
        # The logged losses may change during a run: only those in all of these lines are averaged.
        names = set.intersection(*(set(line) for line in last)) - {"step", "time"}
        means = {name: fmean(line[name] for line in last) for name in sorted(names)}
        return cls(last[-1]["step"], batch, means)


def licences(packages: Path, size: int) -> str:
    """Return the attribution file, from the metadata of the fetched packages."""
    entries = [
        _entry(_ENTRY, read_attribution(set_folder(packages, icon_set)), size)
        for icon_set in ICON_SETS
    ]
    entries.append(_entry(_LABELS_ENTRY, read_labels_attribution(labels_folder(packages)), size))
    return _LICENCES.format(entries="\n".join(entries).rstrip())


def _entry(template: str, attribution: Attribution, size: int) -> str:
    return template.format(**asdict(attribution), size=size)


def card(
    model: LatentDiffusion,
    first: StageRecord,
    second: StageRecord,
    third: StageRecord,
    images: int,
) -> str:
    """Return the README of the bundled model, with the figures of its training runs."""
    encoder = text_stages(model.conditioner)[0].encoder
    return _CARD.format(
        size=model.unet.config.sample_size * model.autoencoder.config.factor,
        unet_parameters=_count(model.unet),
        autoencoder_parameters=_count(model.autoencoder),
        text_parameters=_count(encoder),
        vocabulary=encoder.config.vocab_size,
        images=images,
        first=first,
        second=second,
        l1=first.losses["l1"],
        loss=second.losses["loss"],
        third=third,
        third_l1=third.losses["l1"],
        window=_WINDOW,
    )


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
