"""Cards follow the LoRAs and ControlNets that an operator adds while a worker runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import redis
import torch

from models.lora.merging import layers_of
from models.lora.names import UNET
from protocol.registry.model_registry import ModelRegistry
from tests.models.lora import spellings
from tests.support.tiny_models import write_tiny_controlnet, write_tiny_sd, write_tiny_sdxl
from worker.model_info.extra_networks import ModelCards
from worker.model_info.model_description import ModelDescription, describe_models
from worker.publisher import ModelPublisher
from worker.settings import WorkerSettings


@pytest.fixture
def models(tmp_path: Path) -> list[ModelDescription]:
    """Two models of different families, both served."""
    write_tiny_sd(tmp_path / "sd")
    write_tiny_sdxl(tmp_path / "sdxl")
    config = tmp_path / "models.toml"
    config.write_text('[models.sd]\nsource = "./sd"\n[models.sdxl]\nsource = "./sdxl"\n')
    settings = WorkerSettings(catalogue=config, models_home=tmp_path / "home")
    return list(describe_models(settings, torch.device("cpu")).descriptions.values())


def test_card_is_published_again_when_an_extra_network_was_added(
    models: list[ModelDescription], tmp_path: Path, redis_url: str
) -> None:
    home, tokenizers = tmp_path / "home", [model.tokenizer_json for model in models]
    write_tiny_controlnet(home / "controlnets/first", tmp_path / "sd")
    with redis.Redis.from_url(redis_url) as connection:
        registry, cards = ModelRegistry(connection), ModelCards(models, home)
        publisher = ModelPublisher(connection, "ann", cards.cards)
        assert [(card.controlnets, json) for card, json in cards.cards()] == [
            (("first",), tokenizers[0]),
            ((), tokenizers[1]),
        ]
        publisher.publish()
        before = registry.cards()
        cards.refresh()
        assert not publisher.check()
        assert registry.cards() == before  # nothing has changed since
        write_tiny_controlnet(home / "controlnets/second", tmp_path / "sd")
        cards.refresh()
        assert not publisher.check()
        assert registry.cards()["sd"].controlnets == ("first", "second")
        assert registry.cards()["sdxl"] == before["sdxl"]
        assert registry.tokenizer_json("sd") == tokenizers[0]
        registry.withdraw("sd")
        assert publisher.check()
        assert registry.cards()["sd"].controlnets == ("first", "second")
        shutil.rmtree(home)
        cards.refresh()
        assert not publisher.check()
        assert registry.cards()["sd"].controlnets == ()


def test_lora_is_listed_on_the_cards_that_it_fits(
    models: list[ModelDescription], tmp_path: Path
) -> None:
    layers = layers_of(models[0].skeleton)
    pairs = spellings.random_pairs(layers, [(UNET, "down_blocks.0.attentions.0.proj_in")])
    spellings.save(tmp_path / "home/loras/style.safetensors", spellings.kohya(pairs))
    cards = [card for card, _ in ModelCards(models, tmp_path / "home").cards()]
    assert [card.loras for card in cards] == [("style",), ()]
