"""The operator's models.toml: its entries, and the errors in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from protocol.registry.models_config import InvalidModelsConfig, read_models_config

VALID = """
memory_budget = "1.5 GiB"

[models.base]
source = "owner/base"
aliases = ["default", "sd"]
resident = true
precision = "fp16"
refiner = "second"
defaults = { steps = 25, sampler = "ddim", default_guidance_scale = 5.0, max_images = 2 }

[models.second]
source = "/models/second"
vae = "better"
idle_unload_s = 600.0
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "models.toml"
    file.write_text(text, "utf-8")
    return file


def test_all_entries_are_read(tmp_path: Path) -> None:
    found = read_models_config(written(tmp_path, VALID))
    assert found.memory_budget == 1.5 * 2**30
    base, second = found.models["base"], found.models["second"]
    assert (base.resident, base.aliases, base.refiner) == (True, ("default", "sd"), "second")
    # Short names are expanded to the card's fields.
    assert base.defaults == {
        "default_steps": 25, "default_sampler": "ddim", "default_guidance_scale": 5.0,
        "max_images": 2,
    }  # fmt: skip
    assert (second.resident, second.vae, second.idle_unload_s) == ("on-demand", "better", 600.0)


@pytest.mark.parametrize(
    ("written_size", "size"),
    [("8GB", 8 * 10**9), ("8 GiB", 8 * 2**30), ("500m", 5 * 10**8), ("1024", 1024)],
)
def test_sizes_with_units(tmp_path: Path, written_size: str, size: int) -> None:
    text = f'memory_budget = "{written_size}"\n[models.a]\nsource = "b"\n'
    assert read_models_config(written(tmp_path, text)).memory_budget == size


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("", "models.a.source: Field required"),
        ('source = "b"\nsteps = 3', "models.a.steps: Extra inputs"),
        ('source = "b"\nresident = "always"', "models.a.resident: Input should be True or 'on-de"),
        ('source = "b"\nidle_unload_s = 0.0', "models.a.idle_unload_s: Input should be greater"),
        ('source = "b"\nprecision = "int4"', "models.a.precision: Input should be 'auto'"),
        ('source = "b"\nrefiner = "ghost"', "models.a: the refiner 'ghost' is no other entry"),
        ('source = "b"\nrefiner = "a"', "models.a: the refiner 'a' is no other entry"),
        ('source = "b"\naliases = ["a"]', "models.a: the alias 'a' is a model already"),
        (
            'source = "b"\naliases = ["x", "x"]',
            "models.a: the alias 'x' is an alias of 'a' already",
        ),
        (
            'source = "b"\ndefaults = { stepz = 3 }',
            "models.a.defaults: must be entries of a card, which stepz is not",
        ),
        ('source = "b"\ndefaults = { name = "c" }', "must be entries of a card, which name is not"),
        (
            'source = "b"\n[models."a:b"]\nsource = "b"',
            "models.a:b: must be free of the character U+003A",
        ),
        ('source = "b"\n[models."a\u202eb"]\nsource = "b"', "must be free of the character U+202E"),
        (
            'source = "b"\n[models.".b"]\nsource = "b"',
            "must be without a dot or a space at its beginning",
        ),
        (
            'source = "b"\n[models."\u00e9"]\nsource = "b"\n[models."e\u0301"]\nsource = "b"',
            "models: must be names of different letters, not of equal ones",
        ),
    ],
)
def test_error_has_the_place_of_the_mistake(tmp_path: Path, entry: str, message: str) -> None:
    file = written(tmp_path, f"[models.a]\n{entry}\n")
    with pytest.raises(InvalidModelsConfig) as refused:
        read_models_config(file)
    assert str(file) in str(refused.value)
    assert message in str(refused.value)


def test_refiner_with_a_refiner_is_refused(tmp_path: Path) -> None:
    chain = "".join(
        f'[models.{name}]\nsource = "s"\n{more}\n'
        for name, more in (("a", 'refiner = "b"'), ("b", 'refiner = "c"'), ("c", ""))
    )
    with pytest.raises(InvalidModelsConfig, match=r"models\.a: the refiner 'b' has one itself"):
        read_models_config(written(tmp_path, chain))


@pytest.mark.parametrize(
    "text", ["models = [", "", 'memory_budget = "much"\n[models.a]\nsource="b"']
)
def test_invalid_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidModelsConfig, match=r"models\.toml"):
        read_models_config(written(tmp_path, text))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelsConfig, match="cannot be read"):
        read_models_config(tmp_path / "models.toml")


def test_models_config_in_the_documents_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    found = read_models_config(written(tmp_path, example))
    assert found.memory_budget == 20 * 2**30
    assert {name for name, config in found.models.items() if config.resident is True} == {"photo"}


def test_names_of_any_script_are_in_one_normal_form(tmp_path: Path) -> None:
    text = '[models."cafe\u0301 モデル"]\nsource = "b"\naliases = ["Модель v1.5"]\n'
    [(name, config)] = read_models_config(written(tmp_path, text)).models.items()
    assert (name, config.aliases) == ("caf\u00e9 モデル", ("Модель v1.5",))
