"""The evaluation: its names, classifier, figures and command."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from training.data import EmojiImages
from training.evaluate.__main__ import CLASSIFIER, main
from training.evaluate.classifier import Classifier, train, varied
from training.evaluate.figures import figures
from training.evaluate.generation import resized
from training.evaluate.icon_classes import IconClasses, class_names
from training.evaluate.metrics import frechet_distance, gradient_energy, top_shares
from training.evaluate.names import HALVES, Name, read_names, sample_names
from training.icons.sets import ICON_SETS

ALL = ["noto", "flat", "blob", "twemoji"]
COLOURS = {"tomato": (220, 30, 20), "frog": (30, 200, 40), "droplet": (20, 60, 230)}


def art(side: int = 128) -> EmojiImages:
    """Return a square of its own colour for each name and style."""
    pixels, captions, styles = [], [], []
    for i, style in enumerate(ICON_SETS.values()):
        for name, colour in COLOURS.items():
            image = np.full((side, side, 3), 255, np.uint8)
            margin = side // 4 - i
            image[margin:-margin, margin:-margin] = colour
            pixels.append(image)
            captions.append([name, f"a {name}"])
            styles.append(style)
    return EmojiImages(np.stack(pixels), captions, np.ones(len(pixels)), styles)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    icons = art(32)
    names = class_names(icons)
    found = IconClasses.of(icons, names)
    return train(names, icons.pixels[found.training], found.classes[found.training], steps=20)


def test_there_are_300_names_half_of_them_held_out() -> None:
    names = read_names()
    assert len({name.prompt for name in names}) == 300
    assert [sum(name.half == half for name in names) for half in HALVES] == [150, 150]
    assert {name.half for name in sample_names(names, 12)} == set(HALVES)


def test_the_committed_classifier_knows_every_name() -> None:
    assert {name.label for name in read_names()} <= set(Classifier.load(CLASSIFIER).names)


def test_classes_need_three_training_styles_and_one_that_is_held_out() -> None:
    icons = EmojiImages(
        pixels=np.zeros((7, 2, 2, 3), np.uint8),
        captions=[[name] for name in "aaaabbb"],
        weights=np.ones(7),
        styles=[*ALL, *ALL[:3]],
    )
    assert class_names(icons) == ["a"]
    found = IconClasses.of(icons, ["a"])
    assert (found.training.tolist(), found.held_out.tolist()) == ([0, 1, 2], [3])


def test_classifier_learns_colours_and_survives_its_file(
    classifier: Classifier, tmp_path: Path
) -> None:
    icons = art(64)
    _, logits = classifier.judge(icons.pixels)
    found = IconClasses.of(icons, classifier.names)
    held_out = torch.from_numpy(found.held_out)
    expected = torch.from_numpy(found.classes)
    assert top_shares(logits[held_out], expected[held_out], (1,)) == [1.0]
    classifier.save(tmp_path / "classifier.safetensors")
    loaded = Classifier.load(tmp_path / "classifier.safetensors")
    assert loaded.names == classifier.names
    torch.testing.assert_close(loaded.judge(icons.pixels)[1], logits, rtol=0.02, atol=0.02)


def test_varied_images_keep_white_corners_about_white() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.ones(64, 3, 16, 16)
    changed = varied(images, generator)
    assert changed.shape == images.shape
    assert changed.mean() > 0.8
    assert not torch.equal(changed[0], changed[1])


def test_frechet_distance_is_that_of_the_formula() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=(200, 5)) @ random.normal(size=(5, 5))
    b = random.normal(size=(150, 5)) @ random.normal(size=(5, 5)) + 1
    covariances = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    shift = a.mean(0) - b.mean(0)
    expected = shift @ shift + np.trace(sum(covariances) - 2 * root)
    ours = frechet_distance(torch.from_numpy(a), torch.from_numpy(b))
    assert ours == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(torch.from_numpy(a), torch.from_numpy(a)) == pytest.approx(0, abs=1e-6)


def test_gradient_energy_of_stripes_and_of_their_average() -> None:
    stripes = np.zeros((1, 8, 8, 3), np.uint8)
    stripes[:, :, ::2] = 10
    assert gradient_energy(stripes) == pytest.approx(100)
    assert gradient_energy(resized(stripes, 4)) == 0
    assert gradient_energy(resized(art(64).pixels, 128)) < gradient_energy(art(64).pixels)


def test_shares_of_the_best_and_of_the_best_five() -> None:
    logits = torch.arange(10.0).repeat(4, 1)
    assert top_shares(logits, torch.tensor([9, 8, 5, 4])) == [0.25, 0.75]


def test_icons_themselves_have_perfect_figures(classifier: Classifier) -> None:
    icons = art(64)
    names = [Name(name, name, HALVES[i % 2]) for i, name in enumerate(COLOURS)]
    held_out = IconClasses.of(icons, classifier.names).held_out
    order = [i for name in COLOURS for i in held_out if icons.captions[i][0] == name]
    pixels = icons.pixels[order]
    measured = figures(classifier, icons, names, pixels, classifier.judge(pixels)[1])
    assert measured["top1_top5"] == {half: [1.0, 1.0] for half in HALVES}
    same = measured["images"]["64"]
    assert same == {"frechet_distance": 0.0, "gradient_energy_ratio": 1.0}


def test_quick_evaluation_of_the_bundled_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sample_names(read_names(), 12)
    icons = art()
    chosen = [names[i % len(names)].label for i in range(len(icons.captions))]
    EmojiImages(icons.pixels, [[name] for name in chosen], icons.weights, icons.styles).save(
        tmp_path / "data-128"
    )
    main(["--quick", "--work", str(tmp_path)])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["names"] == len(names)
    assert set(result["top1_top5"]) == set(HALVES)
    assert set(result["images"]) == {"64", "128"}
    written = {path.suffix for path in (tmp_path / "evaluation").iterdir()}
    assert written == {".pt", ".png"}
