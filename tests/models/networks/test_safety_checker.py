"""The safety checker against diffusers and transformers, with the same random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.checkpoints.checkpoint import CheckpointMissing
from models.checkpoints.errors import UnsupportedConfig
from models.checkpoints.meta import meta_device
from models.networks.safety_checker import (
    CONCEPTS,
    SPECIAL_CARE,
    SafetyChecker,
    VisionConfig,
    adjusted,
    load_safety_checker,
    ships_safety_checker,
)
from tests.support.published import SD15, key_list, published
from worker.engine.safety import clip_input

TOLERANCE = 1e-4
SIDE, IMAGES = 32, 40
TINY = {
    "projection_dim": 24,
    "text_config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "vision_config": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "image_size": SIDE,
        "num_attention_heads": 4, "patch_size": 8, "hidden_act": "quick_gelu",
    },
}  # fmt: skip


def random_images() -> Tensor:
    return torch.randn(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def theirs() -> Any:
    torch.manual_seed(0)
    checker = StableDiffusionSafetyChecker(transformers.CLIPConfig(**TINY)).eval()
    for parameter in checker.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    # Thresholds that few of the images exceed, so that some are flagged and others not.
    with torch.no_grad():
        embeddings = checker.visual_projection(checker.vision_model(random_images())[1])
        for name, deviations in (("concept_embeds", 2.0), ("special_care_embeds", 1.0)):
            concepts = getattr(checker, name)
            cosines = torch.cosine_similarity(embeddings[:, None], concepts[None], dim=-1)
            threshold = cosines.mean(dim=0) + deviations * cosines.std(dim=0)
            getattr(checker, f"{name}_weights").copy_(threshold)
    return checker


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the checker with diffusers."""
    folder = tmp_path_factory.mktemp("checked")
    theirs.save_pretrained(folder / "safety_checker")
    index = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def ours(folder: Path) -> SafetyChecker:
    return load_safety_checker(folder, torch.float32, torch.device("cpu"))


def test_files_in_the_published_spelling_are_read_too(
    ours: SafetyChecker, folder: Path, tmp_path: Path
) -> None:
    """transformers 5 leaves one `vision_model.` out; the published file has two, and positions."""
    part = folder / "safety_checker"
    assert "vision_model.pre_layrnorm.bias" in load_file(part / "model.safetensors")
    positions = {"vision_model.vision_model.embeddings.position_ids": torch.arange(17)[None]}
    tensors = {name: p.contiguous() for name, p in ours.state_dict().items()} | positions
    (tmp_path / "safety_checker").mkdir()
    save_file(tensors, tmp_path / "safety_checker/model.safetensors")
    shutil.copy(part / "config.json", tmp_path / "safety_checker")
    again = load_safety_checker(tmp_path, torch.float32, torch.device("cpu"))
    assert all(torch.equal(p, tensors[name]) for name, p in again.state_dict().items())


def test_parameters_are_those_of_the_published_file() -> None:
    config = VisionConfig.from_dict(published(SD15, "safety_checker/config.json"))
    with meta_device():
        checker = SafetyChecker(config)
    shapes = {name: tuple(p.shape) for name, p in checker.state_dict().items()}
    positions = "vision_model.vision_model.embeddings.position_ids"  # just 0, 1, 2, …
    assert shapes == {
        name: shape
        for name, shape in key_list(f"{SD15}.safety_checker").items()
        if name != positions
    }


def test_embeddings_and_flags_equal_diffusers(ours: SafetyChecker, theirs: Any) -> None:
    images = random_images()
    with torch.no_grad():
        expected = theirs.visual_projection(theirs.vision_model(images)[1])
        embeddings = ours(images)
        _, flags = theirs(images, torch.zeros(IMAGES, 3, 4, 4))
    assert float((embeddings - expected).abs().max() / expected.abs().max()) < TOLERANCE
    scores = [ours.scores(image) for image in images]
    assert [score.flagged for score in scores] == flags
    assert {*flags} == {True, False}
    assert {bool((score.special_care > 0).any()) for score in scores} == {True, False}


def reference(
    special: NDArray[np.float32], concepts: NDArray[np.float32]
) -> tuple[list[float], list[float]]:
    """Compute diffusers' scores from cosines less thresholds, one number at a time."""
    adjustment = 0.0
    lists: tuple[list[float], list[float]] = ([], [])
    for values, scores in zip((special, concepts), lists, strict=True):
        for value in values:
            scores.append(round(value + adjustment, 3))
            if values is special and scores[-1] > 0:
                adjustment = 0.01
    return lists


@pytest.mark.parametrize("seed", range(20))
def test_special_care_raises_later_scores(seed: int) -> None:
    dice = np.random.default_rng(seed)
    special = dice.normal(-0.01, 0.01, SPECIAL_CARE).astype(np.float32)
    concepts = dice.normal(-0.015, 0.01, CONCEPTS).astype(np.float32)
    scores, (cared, all_concepts) = adjusted(special, concepts), reference(special, concepts)
    np.testing.assert_array_equal(scores.special_care, np.array(cared, np.float32))
    np.testing.assert_array_equal(scores.concepts, np.array(all_concepts, np.float32))
    assert scores.flagged == (max(all_concepts) > 0)


def test_score_that_rounds_to_zero_flags_nothing() -> None:
    nothing = np.full(SPECIAL_CARE, -1, np.float32)
    for score, flagged in ((0.0004, False), (0.0006, True)):
        concepts = np.full(CONCEPTS, -1, np.float32)
        concepts[3] = score
        assert adjusted(nothing, concepts).flagged is flagged


@pytest.mark.parametrize("size", [(512, 512), (96, 40), (40, 97), (224, 224), (333, 511)])
def test_image_preprocessing_equals_transformers(size: tuple[int, int]) -> None:
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(noise).resize((7, 5)).resize(size), dtype=np.uint8)
    processor = transformers.CLIPImageProcessorPil(
        **{k: v for k, v in published(SD15, "feature_extractor/preprocessor_config.json").items()
           if k != "feature_extractor_type"}
    )  # fmt: skip
    for pixels in (noise, smooth):
        expected = processor(Image.fromarray(pixels), return_tensors="pt").pixel_values[0]
        torch.testing.assert_close(clip_input(pixels, 224), expected, rtol=0, atol=1e-5)


def test_a_model_has_a_checker_if_its_index_names_one(folder: Path, tmp_path: Path) -> None:
    assert ships_safety_checker(folder)
    assert not ships_safety_checker(tmp_path)
    for checker in ([None, None], None):
        (tmp_path / "model_index.json").write_text(json.dumps({"safety_checker": checker}))
        assert not ships_safety_checker(tmp_path)


def test_missing_checker_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="names a safety checker, but has none"):
        load_safety_checker(tmp_path, torch.float32, torch.device("cpu"))


def test_unknown_activations_are_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="relu"):
        VisionConfig.from_dict({"vision_config": {"hidden_act": "relu"}})
