"""Card and licences of the bundled model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Self

from safetensors.torch import load_file
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
{parts}

## How it was trained

With the commands of `python -m training`, on two CPU cores shared with other work, in bfloat16.
Data: {images:,} images of seven openly licensed emoji sets (see [LICENSES.md](LICENSES.md)), among
them copies of everyday emoji in other colours, captioned with their names, synonyms, tags, colours
and a word for the style. Everyday emoji and the plainest style were sampled most
(`training/icons/everyday.py`, `training/icons/captions.py`), because the run was short.

| stage | images seen | measured at the end |
|---|---|---|
{stages}

Settings were tuned while the stages ran; the code has their last values. `training.json` counts the
images that each stage has seen.
{turbo}
## Limits

It generates the emoji it was trained on and little else: no scenes, no counting, no lettering.
Everyday emoji are right; rarer ones, above all detailed objects, often only in colour and outline.
Other sizes than {size}×{size} were never trained. A guidance scale of 3 to 6 and 20 steps
work well.
"""

_TURBO = """
## Four steps

`loras/turbo.safetensors` ({turbo_parameters:,} parameters) was distilled from the model (Luo et al.
2023, LCM-LoRA): with it, four steps of the sampler `lcm` without guidance make an image. It has the
layout of the published LCM-LoRAs and loads in diffusers by `load_lora_weights`.
"""

# The stages by their names in `training.json`.
_STAGES = {
    "autoencoder": "autoencoder, KL and patch discriminator",
    "diffusion": "diffusion, v-prediction, averaged weights",
    "decoder": "decoder alone, on the same latents",
    "enlarged decoder": "decoder of one level more, for twice the side, on the same latents",
    "enlarged encoder": "encoder of one level more, to the same latents",
    "turbo": "LoRA for four steps",
}

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
    seen: Mapping[str, int],
    images: int,
    measured: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the README of the bundled model.

    seen: the images that each stage has seen, as in `training.json`. images: in the data.
    measured: what was measured at the end of a stage, by its name.
    """
    return _CARD.format(
        size=model.unet.config.sample_size * model.autoencoder.config.factor,
        parts=_rows((title, f"{_count(network):,}") for title, network in _parts(model)),
        images=images,
        stages=_rows(
            (_STAGES.get(name, name), f"{count:,}", measured.get(name, "–"))
            for name, count in seen.items()
        ),
        turbo=_turbo(model.folder / "loras" / "turbo.safetensors"),
    )


def _parts(model: LatentDiffusion) -> Iterator[tuple[str, nn.Module]]:
    """Yield the networks of a model with their titles."""
    config = model.autoencoder.config
    encoder = text_stages(model.conditioner)[0].encoder
    yield "UNet", model.unet
    smaller = f"{config.factor}× smaller sides, {config.latent_channels} channels"
    yield f"autoencoder ({smaller})", model.autoencoder
    yield f"text encoder (CLIP-shaped, own vocabulary of {encoder.config.vocab_size:,})", encoder


def _turbo(file: Path) -> str:
    """Return the section about the LoRA in `file`, or "" if there is none."""
    if not file.exists():
        return ""
    factors = (tensor for name, tensor in load_file(file).items() if name.endswith(".weight"))
    return _TURBO.format(turbo_parameters=sum(tensor.numel() for tensor in factors))


def _rows(cells: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
