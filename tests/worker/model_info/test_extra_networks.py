"""Cards follow the LoRAs and ControlNets that an operator adds while a worker runs."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import pytest
import redis
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from models.checkpoints.names import name_problem, normal_form
from models.lora.merging import layers_of
from models.lora.names import UNET
from models.lora.registry import LoraRegistry
from protocol.registry.model_registry import ModelRegistry
from protocol.request.generation_params import GenerationParams
from protocol.request.model_card import ModelCard
from protocol.request.resolve import choose_card, resolve
from protocol.request.tasks import Task
from tests.models.lora import spellings
from tests.support.tiny_models import write_tiny_controlnet, write_tiny_sd, write_tiny_sdxl
from worker.model_info.extra_networks import MAX_REASON, ModelCards
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
        other = registry.cards()["sdxl"]
        assert (other.controlnets, [*other.misfits["controlnets"]]) == ((), ["first", "second"])
        assert other == before["sdxl"].model_copy(update={"misfits": other.misfits})
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
    [(name, reason)] = cards[1].misfits["loras"].items()
    assert (name, reason.startswith("does not fit: keys of no layer")) == ("style", True)


NAMES = st.text(
    st.characters(categories=["L", "M", "N", "P", "S", "Zs"]), min_size=1, max_size=60
).filter(lambda text: name_problem(normal_form(text)) is None)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=NAMES)
def test_any_name_leads_from_the_file_to_the_request_and_back(
    models: list[ModelDescription], tmp_path: Path, redis_url: str, name: str
) -> None:
    """The file has the name in one encoding, the request in another."""
    file_name = f"{unicodedata.normalize('NFD', name)}.safetensors"
    assume(len(file_name.encode()) <= 255)
    home, layers = tmp_path / "home", layers_of(models[0].skeleton)
    shutil.rmtree(home, ignore_errors=True)
    pairs = spellings.random_pairs(layers, [(UNET, "conv_in")])
    spellings.save(home / "loras" / file_name, spellings.kohya(pairs))
    [(card, tokenizer), _] = ModelCards(models, home).cards()
    with redis.Redis.from_url(redis_url) as connection:
        registry = ModelRegistry(connection)
        registry.publish(card.model_copy(update={"name": normal_form(name)}), tokenizer)
        cards = registry.cards()
        registry.withdraw(normal_form(name))
    fields = {"model": name, "prompt": f"a <lora:{name}:0.5>", "loras": [{"name": name}]}
    params = GenerationParams.model_validate_json(json.dumps(fields))
    served = choose_card(Task.TXT2IMG, params.model, cards)
    request = resolve(Task.TXT2IMG, params, served, lambda text: len(text.split()))
    assert (request.model, [(use.name, use.weight) for use in request.loras]) == (
        normal_form(name),
        [(normal_form(name), 1.5)],
    )
    assert LoraRegistry(home / "loras").get(request.loras[0].name, layers).changes


def test_reasons_on_a_card_are_few_and_short(
    models: list[ModelDescription], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.model_info.extra_networks.MAX_MISFITS", 2)
    for name in ("a", "b", "c", "n" * 201, "\u202e"):
        tensors = {f"{name}{'x' * 400}.lora_up.weight": torch.ones(1)}
        spellings.save(tmp_path / f"home/loras/{name}.safetensors", tensors)
    for card, _ in ModelCards(models, tmp_path / "home").cards():
        assert [*card.misfits["loras"]] == ["a", "b"]
        assert max(map(len, card.misfits["loras"].values())) <= MAX_REASON
        assert ModelCard.model_validate_json(card.model_dump_json()) == card
