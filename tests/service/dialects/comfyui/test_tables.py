"""Agreement of the page of ComfyUI's dialect with the nodes and the tests."""

import re

import pytest

from service.dialects.comfyui.graph.classes import NODES
from service.dialects.comfyui.graph.unsupported import UNSUPPORTED
from tests.support.imports import ROOT

PAGE = (ROOT / "docs/dialects/comfyui.md").read_text("utf-8")
FOLDER = ROOT / "tests/service/dialects/comfyui"
NODE = re.compile(r"^\| `(\w+)` \| (.+) \| `(test_\w+)` \|$", re.MULTILINE)
REASON = re.compile(r"^\| ([^`|]+) \| (`.+`) \|$", re.MULTILINE)
HELPER = re.compile(r"^def (\w+)\(.*?(?=^def |^[A-Z]|\Z)", re.MULTILINE | re.DOTALL)


def bodies() -> dict[str, str]:
    """Return the text of each test, with its parameters and the graphs that it makes."""
    graphs = {one[1]: one[0] for one in HELPER.finditer((FOLDER / "graphs.py").read_text())}
    found = {}
    for name in ("test_resolution.py", "test_refusals.py"):
        blocks = re.split(r"\n\n\n", (FOLDER / name).read_text("utf-8"))
        for block in blocks:
            if match := re.search(r"^def (test_\w+)\(", block, re.MULTILINE):
                used = [graphs[word] for word in set(re.findall(r"\w+", block)) & graphs.keys()]
                nested = [graphs[word] for text in used for word in graphs if f"{word}(" in text]
                found[match[1]] = "\n".join([block, *used, *nested])
    return found


def test_every_node_that_is_resolved_is_listed() -> None:
    listed = [node for node, _, _ in NODE.findall(PAGE)]
    assert sorted(listed) == sorted(NODES)


@pytest.mark.parametrize(("node", "test"), [(node, test) for node, _, test in NODE.findall(PAGE)])
def test_every_node_has_its_test(node: str, test: str) -> None:
    assert f'"{node}"' in bodies()[test]


def test_every_node_that_is_refused_is_listed_with_its_reason() -> None:
    listed = {
        node: reason
        for reason, nodes in REASON.findall(PAGE)
        for node in re.findall(r"`(\w+)`", nodes)
    }
    assert {node: reason for node, reason in listed.items() if node in UNSUPPORTED} == UNSUPPORTED
