"""Facts about the use of a LoRA, from its header and its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.lora.facts import MAX_PREVIEW, LoraFacts, facts_of
from models.lora.merging import layers_of
from models.lora.names import UNET
from models.lora.recommended import Recommended, published
from models.lora.registry import LoraRegistry
from models.pipeline import LatentDiffusion
from tests.models.lora import spellings

PREVIEW = "data:image/jpeg;base64,/9j/4AAQSkZJRg=="


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, LoraFacts()),
        ({"modelspec.trigger_phrase": " a  cat,\n hat\u202e "}, LoraFacts(trigger="a cat, hat")),
        ({"modelspec.trigger_phrase": "x" * 9999}, LoraFacts(trigger="x" * 1000)),
        ({"modelspec.thumbnail": PREVIEW}, LoraFacts(preview=PREVIEW)),
        ({"modelspec.thumbnail": "data:text/html;base64,AAAA"}, LoraFacts()),
        ({"modelspec.thumbnail": "https://example.com/a.png"}, LoraFacts()),
        ({"modelspec.thumbnail": PREVIEW + '"><script>'}, LoraFacts()),
        ({"modelspec.thumbnail": PREVIEW[:23] + MAX_PREVIEW * "A"}, LoraFacts()),
    ],
)
def test_facts_are_read_from_the_header(
    tmp_path: Path, metadata: dict[str, str], expected: LoraFacts
) -> None:
    file = spellings.save(tmp_path / "a.safetensors", {"x": torch.ones(1)}, **metadata)
    assert facts_of(file, "a") == expected


def test_vectors_of_bundled_words_are_counted(tmp_path: Path) -> None:
    tensors = {
        "bundle_emb.hat.string_to_param.*": torch.ones(3, 8),
        "bundle_emb.cap.clip_l": torch.ones(8),
    }
    file = spellings.save(tmp_path / "a.safetensors", tensors)
    assert facts_of(file, "a").words == {"hat": 3, "cap": 1}


def test_files_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    assert facts_of(tmp_path / "bad.safetensors", "bad") == LoraFacts()
    assert facts_of(tmp_path / "gone.safetensors", "gone") == LoraFacts()


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # the published files, and the repositories of those with a general name
        ("lcm-lora-sdv1-5", Recommended("lcm", "lcm", 1.0, 4)),
        ("lcm-lora-sdxl", Recommended("lcm", "lcm", 1.0, 4)),
        ("TCD-SD15-LoRA", Recommended("tcd", "lcm", 1.0, 4)),
        ("TCD-SDXL-LoRA", Recommended("tcd", "lcm", 1.0, 4)),
        ("Hyper-SD15-8steps-lora", Recommended("ddim", "trailing", 1.0, 8)),
        ("Hyper-SDXL-2steps-lora", Recommended("ddim", "trailing", 1.0, 2)),
        ("Hyper-SDXL-12steps-CFG-lora", Recommended("ddim", "trailing", 5.0, 12)),
        ("Hyper-SD15-1step-lora", Recommended("tcd", "lcm", 1.0, 1)),
        ("sdxl_lightning_4step_lora", Recommended("euler", "trailing", 1.0, 4)),
        ("lightning storm", None),
        ("calcm-lora", None),
    ],
)
def test_published_fast_loras_are_known_by_name(name: str, expected: Recommended | None) -> None:
    assert published(name) == expected


CARD = {"sampler": "lcm", "schedule": "lcm", "guidance_scale": 1, "steps": 4}


@pytest.mark.parametrize(
    ("name", "card", "expected"),
    [
        ("quick", CARD, Recommended("lcm", "lcm", 1.0, 4)),
        ("quick", CARD | {"title": "a manifest"}, Recommended("lcm", "lcm", 1.0, 4)),
        ("lcm-lora-sdxl", CARD | {"steps": 6}, Recommended("lcm", "lcm", 1.0, 6)),
        ("lcm-lora-sdxl", {"source": "somewhere"}, Recommended("lcm", "lcm", 1.0, 4)),
        ("quick", {"source": "somewhere"}, None),
        ("quick", [4], None),
        ("quick", {"steps": 4}, None),
        ("quick", CARD | {"sampler": "unknown"}, None),
        ("quick", CARD | {"schedule": ["lcm"]}, None),
        ("quick", CARD | {"guidance_scale": "1"}, None),
        ("quick", CARD | {"guidance_scale": -1}, None),
        ("quick", CARD | {"steps": 0}, None),
        ("quick", CARD | {"steps": 1.5}, None),
        ("quick", CARD | {"steps": True}, None),
    ],
)
def test_card_beside_the_file_states_the_settings_of_its_training(
    tmp_path: Path, name: str, card: object, expected: Recommended | None
) -> None:
    file = spellings.save(tmp_path / f"{name}.safetensors", {"x": torch.ones(1)})
    (tmp_path / f"{name}.json").write_text(json.dumps(card))
    assert facts_of(file, name) == LoraFacts(recommended=expected)


def test_changed_card_is_read_again(tmp_path: Path) -> None:
    spellings.save(tmp_path / "a.safetensors", {"x": torch.ones(1)})
    registry = LoraRegistry(tmp_path)
    assert registry.facts(("a",)) == {"a": LoraFacts()}
    (tmp_path / "a.json").write_text(json.dumps(CARD))
    settings = Recommended("lcm", "lcm", 1.0, 4)
    assert registry.facts(("a",)) == {"a": LoraFacts(recommended=settings)}


def test_each_header_is_read_once(
    tiny_sd: LatentDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = layers_of(tiny_sd)
    pairs = spellings.random_pairs(layers, [(UNET, "conv_in")])
    metadata = {"modelspec.trigger_phrase": "ink"}
    spellings.save(tmp_path / "a.safetensors", spellings.kohya(pairs), **metadata)
    registry = LoraRegistry(tmp_path)
    assert registry.facts(("a", "gone")) == {"a": LoraFacts(trigger="ink")}
    monkeypatch.setattr("models.lora.registry.facts_of", lambda *_: pytest.fail("read again"))
    assert registry.facts(("a",)) == {"a": LoraFacts(trigger="ink")}
