"""Agreement of the operators' page of dialects with the routes."""

import re

import pytest
from fastapi.routing import iter_route_contexts

from service.dialects.registry import DIALECTS
from service.settings import DialectName
from tests.support.imports import ROOT

FOLDER = ROOT / "docs/dialects"
PAGE = (FOLDER / "README.md").read_text("utf-8")
ROW = re.compile(r"^\| `([A-Z]+) (\S+)` \|", re.MULTILINE)


def routes(name: DialectName) -> set[tuple[str, str]]:
    """Return method and path of each route of a dialect."""
    return {
        (method, str(route.path))
        for route in iter_route_contexts(DIALECTS[name].router.routes)
        for method in route.methods or ()
    }


def sections() -> dict[str, str]:
    """Return the sections of the page by their heading."""
    return dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", [name for name in DIALECTS if routes(name)])
def test_the_page_lists_every_route_of_a_dialect(name: DialectName) -> None:
    section = sections()[name]
    assert set(ROW.findall(section)) == routes(name)
    assert f"({name}.md)" in section
    assert (FOLDER / f"{name}.md").exists()


def test_the_page_lists_no_other_dialect() -> None:
    assert sections().keys() <= set(DialectName)
