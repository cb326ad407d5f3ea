"""What a worker says of its model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from models.pipeline import LatentDiffusion
from worker.card import model_card, model_name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "stable-diffusion-v1-5"),
        ("/some/folder/My Model (v2)/", "My-Model-v2"),
        ("..", "model"),
    ],
)
def test_names_fit_queues_and_urls(given: str, name: str) -> None:
    assert model_name(given) == name


def test_bounds_and_defaults_come_from_the_files(model: LatentDiffusion) -> None:
    card = model_card(model, "somebody/tiny")
    assert (card.name, card.family) == ("tiny", "sd1")
    assert (card.size_multiple, card.min_side, card.default_width) == (4, 8, 32)
    assert (card.default_sampler, card.default_schedule) == ("plms", "leading")
    assert (card.chunk_tokens, card.max_prompt_tokens) == (75, 300)
    assert card.max_clip_skip == 1  # of an encoder of two layers


def test_a_file_beside_the_model_overrides_the_card(model: LatentDiffusion, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model.folder, tmp_path / "model"))
    moved = replace(model, folder=folder)
    (folder / "darkroom.json").write_text(json.dumps({"name": "mine", "default_steps": 7}))
    card = model_card(moved, "somebody/tiny")
    assert (card.name, card.default_steps) == ("mine", 7)
    (folder / "darkroom.json").write_text(json.dumps({"default_stepz": 7}))
    with pytest.raises(ValueError, match="default_stepz"):
        model_card(moved, "somebody/tiny")
