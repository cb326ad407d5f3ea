"""Standard terms instead of private ones, in code, page, metrics and documents."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("protocol", "service", "worker", "models", "training"),
    *("clients", "darkroom", "bench", "tests"),
)
FOLDERS = (
    "protocol",
    "service",
    "worker",
    "models",
    "training",
    "darkroom",
    "clients",
    "bench",
    "deploy",
    "docs",
)
SUFFIXES = {".py", ".js", ".html", ".css", ".lua", ".md", ".yml", ".yaml", ".toml", ".tpl", ".sh"}

# Word -> the term that this project uses.
REPLACED = {
    r"pictur\w*": "image",
    r"draw(s|n|ing|ings)?|drew": "generate",
    r"houses?": "local stack",
    r"lodgers?": "model entry",
    r"shelf|shelves": "model manager",
    r"vigils?": "failure detector",
    r"wish(es)?": "generate arguments",
    r"visitors?": "user",
    r"announcers?": "heartbeat",
    r"sweepers?": "garbage collector",
    r"condemn(s|ing)?": "mark for deletion",
    r"census": "queue statistics",
    r"ledgers?": "job source",
    r"unsaid": "uncond",
    r"trajector(y|ies)": "denoising state",
}
# Quoted names of others, subjects of images, and names stored in Redis.
ALLOWED = re.compile(
    r"ImageDraw(\.Draw)?|\bdraw[.=]|\bdraw = |red house|\"house\"|sun, house|showing .*house"
    r"|2024, \"Trajectory|[Tt]rajectory (Consistency|Stochastic)|\(\"condemned\"|condemned`"
    r"|\"PICTURE\""
)
WORD = re.compile(rf"(?<![\w-])({'|'.join(REPLACED)})(?![\w-])", re.IGNORECASE)
RIDDLE = re.compile(r"(What|How|Whether|Where|Who|Whose|Which|Why|When)\b")
MAX_RIDDLES = 0.01  # share of all docstrings


def texts() -> Iterator[tuple[str, str]]:
    """Path and text of every file with code or prose, without recorded results and changes."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*"))]
    files += [path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"]
    files += [ROOT / "Makefile", ROOT / "Dockerfile", ROOT / "docker-compose.yml"]
    for path in files:
        if (path.suffix in SUFFIXES or not path.suffix) and path.is_file():
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def replaced_words(text: str) -> list[str]:
    return [match[0] for match in WORD.finditer(ALLOWED.sub("", text))]


def test_replaced_words_are_gone() -> None:
    found = [
        f"{name}:{number}: {', '.join(words)}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if (words := replaced_words(line))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line", ["def draw(picture):", "A House of programs", "# the shelf's turn"]
)
def test_replaced_word_is_found(line: str) -> None:
    assert replaced_words(line)


def docstrings() -> Iterator[str]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(
                    node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
                ) and (text := ast.get_docstring(node)):
                    yield text


def test_docstrings_open_with_a_verb_or_a_noun() -> None:
    found = list(docstrings())
    riddles = [text.splitlines()[0] for text in found if RIDDLE.match(text)]
    assert len(riddles) <= MAX_RIDDLES * len(found), riddles
