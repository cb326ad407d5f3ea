"""What the documents promise is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from models.samplers import SAMPLERS, SCHEDULES
from protocol.request.generation_params import GenerationParams
from protocol.settings import Settings
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"DARKROOM_{name}".upper()


@pytest.mark.parametrize("settings", [Settings, ServiceSettings, WorkerSettings])
def test_readme_has_every_setting_and_its_meaning(settings: type[Settings]) -> None:
    for name, field in settings.model_fields.items():
        [row] = re.findall(rf"^\| `{variable(name, field)}` \|.*$", README, re.MULTILINE)
        assert str(field.description) in row


def test_readme_names_no_setting_that_is_gone() -> None:
    known = {
        variable(name, field)
        for settings in (ServiceSettings, WorkerSettings)
        for name, field in settings.model_fields.items()
    }
    # These two are of commands that have no settings beside their options.
    known |= {"DARKROOM_HOME", "DARKROOM_API_KEY"}
    assert set(re.findall(r"\bDARKROOM_[A-Z_]+\b", README)) <= known


def test_readme_names_every_sampler_schedule_and_field() -> None:
    for name in (*SAMPLERS, *SCHEDULES, *GenerationParams.model_fields):
        assert f"`{name}`" in README, name


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")), ids=lambda path: path.name)
def test_links_and_pictures_are_there(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8"))
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "README.md"])
def test_files_that_documents_name_are_there(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    folders = "protocol|service|worker|models|training|darkroom|bench|tests"
    named = set(re.findall(rf"`((?:{folders})/[a-z_/]*(?:\.py)?)`", text))
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", ["docs/security.md", "README.md"])
def test_every_test_that_a_document_names_is_there(document: str) -> None:
    page = (ROOT / document).read_text("utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page))
    assert len(named) > 30
    defined = {file: (ROOT / file).read_text("utf-8") for file, _ in named}
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in defined[file]]
    assert missing == []


def test_each_row_of_the_security_page_names_its_test() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    rows = re.findall(r"^\| .* \| .* \| .* \| .* \|$", page, re.MULTILINE)
    assert len(rows) > 25
    assert [row for row in rows if "::test_" not in row and "shown by" not in row] == []


def test_each_row_of_what_it_loads_names_its_test() -> None:
    section = README.split("## What it loads")[1].split("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("|")][2:]
    assert len(rows) > 25
    assert [row for row in rows if "::test_" not in row] == []
