"""Tests that the documents agree with the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from bench.docs.settings_table import names, with_tables
from models.samplers import SAMPLERS, SCHEDULES
from protocol.request.generation_params import GenerationParams
from protocol.settings import Settings
from protocol.variables import VARIABLES
from service.schemas.problems import STATUSES
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("dialects/*.md")),
]
API = (DOCS / "api.md").read_text("utf-8")
CONFIGURATION = (DOCS / "configuration.md").read_text("utf-8")
MODELS = (DOCS / "models.md").read_text("utf-8")
SECURITY = (DOCS / "security.md").read_text("utf-8")
HISTORY = {"CHANGELOG.md", "DECISIONS.md"}  # may name removed files
FOLDERS = "protocol|service|worker|models|training|darkroom|bench|tests"

all_documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@pytest.mark.parametrize("settings", [Settings, ServiceSettings, WorkerSettings])
def test_configuration_lists_every_setting_with_its_description(settings: type[Settings]) -> None:
    for name, field in settings.model_fields.items():
        [row] = re.findall(rf"^\| `{settings.variable(name)}` \|.*$", CONFIGURATION, re.MULTILINE)
        assert str(field.description) in row


def test_settings_tables_are_current() -> None:
    assert with_tables(CONFIGURATION) == CONFIGURATION, "run `make docs`"


def test_file_of_variables_is_current() -> None:
    assert frozenset(names()) == VARIABLES, "run `make docs`"


@all_documents
def test_documents_name_only_existing_settings(document: Path) -> None:
    assert set(re.findall(r"\bDARKROOM_[A-Z_]*[A-Z]\b", document.read_text("utf-8"))) <= set(
        names()
    )


def test_api_page_names_every_sampler_schedule_and_field() -> None:
    for name in (*SAMPLERS, *SCHEDULES, *GenerationParams.model_fields):
        assert f"`{name}`" in API, name


def test_api_page_lists_every_error_with_its_status() -> None:
    for status, kind in STATUSES.values():
        assert re.search(rf"^\| {status.value} \|.*`{kind}`", API, re.MULTILINE), kind


@all_documents
def test_links_and_images_exist(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text("utf-8"))
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert missing == []


@all_documents
def test_linked_headings_exist(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text("utf-8"))
    missing = [
        f"{page}#{anchor}"
        for page, anchor in links
        if anchor not in headings(document.parent / page if page else document)
    ]
    assert missing == []


def headings(document: Path) -> set[str]:
    """Return the anchors of the headings in Markdown."""
    found = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if d.name not in HISTORY], ids=lambda path: path.name
)
def test_named_files_exist(document: Path) -> None:
    named = set(re.findall(rf"`((?:{FOLDERS})/[\w/]*(?:\.py)?)`", document.read_text("utf-8")))
    naming = {ROOT / name for name in ("ARCHITECTURE.md", "README.md", "CONTRIBUTING.md")}
    assert named or document not in naming
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@all_documents
def test_named_modules_can_be_run(document: Path) -> None:
    named = set(re.findall(rf"python -m ((?:{FOLDERS})(?:\.\w+)*)", document.read_text("utf-8")))
    assert [name for name in sorted(named) if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("page", [SECURITY, MODELS], ids=["security.md", "models.md"])
def test_named_tests_exist(page: str) -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page))
    assert len(named) > 30
    defined = {file: (ROOT / file).read_text("utf-8") for file, _ in named}
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in defined[file]]
    assert missing == []


def test_each_row_of_the_security_page_names_its_test() -> None:
    rows = re.findall(r"^\| .* \| .* \| .* \| .* \|$", SECURITY, re.MULTILINE)
    assert len(rows) > 25
    assert [row for row in rows if "::test_" not in row and "shown by" not in row] == []


def test_each_row_of_the_models_page_names_its_test() -> None:
    section = MODELS.split("## What it loads")[1].split("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("|")][2:]
    assert len(rows) > 25
    assert [row for row in rows if "::test_" not in row] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 1200
