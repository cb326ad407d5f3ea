"""Infotexts are read as AUTOMATIC1111 and another package read them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sd_parsers.parsers import AUTOMATIC1111Parser

from protocol.recipes.infotext import Infotext, parse_infotext, write_infotext
from tests.protocol.recipes import a1111_parser

TYPICAL = """a girl, (masterpiece:1.2) <lora:style:0.8>
with a hat
Negative prompt: bad, worse
and worst
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, \
Size: 512x768, Model hash: abcdef1234, Model: v1-5, Hires prompt: "a, b: c\\n\\"d\\"", \
Lora hashes: "style: 123, b: 456", Version: v1.10.1"""


def as_a1111(infotext: Infotext) -> dict[str, str]:
    """Return an infotext in the form of its own parser."""
    found = {"Prompt": infotext.prompt, "Negative prompt": infotext.negative_prompt}
    for name, value in infotext.parameters.items():
        if size := a1111_parser.SIZE.match(value):
            found |= {f"{name}-1": size[1], f"{name}-2": size[2]}
        else:
            found[name] = value
    return found


def test_typical_text() -> None:
    found = parse_infotext(TYPICAL)
    assert found.prompt == "a girl, (masterpiece:1.2) <lora:style:0.8>\nwith a hat"
    assert found.negative_prompt == "bad, worse\nand worst"
    assert found.parameters["Hires prompt"] == 'a, b: c\n"d"'
    assert found.parameters["Lora hashes"] == "style: 123, b: 456"
    assert as_a1111(found) == a1111_parser.parse(TYPICAL)
    again = write_infotext(found)
    assert a1111_parser.parse(again) == a1111_parser.parse(TYPICAL)


pieces = st.sampled_from(
    ["Negative prompt:", "\n", " ", ",", ":", '"', "\\", "Steps: 20", "Seed: 1", "Size: 8x8", "a b"]
)


@given(st.lists(pieces | st.text(max_size=5), max_size=30).map("".join))
def test_any_text_is_read_as_by_automatic1111(text: str) -> None:
    assert as_a1111(parse_infotext(text)) == a1111_parser.parse(text)


keys = st.from_regex(r"[A-Za-z][A-Za-z0-9 /-]{1,20}", fullmatch=True)
lines = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=30)


@given(lines, lines, st.dictionaries(keys, st.text(max_size=30), min_size=3))
def test_written_text_is_read_by_automatic1111(
    prompt: str, negative: str, parameters: dict[str, str]
) -> None:
    text = write_infotext(Infotext(prompt, negative, parameters))
    found = a1111_parser.parse(text)
    expected = as_a1111(Infotext(prompt, negative, parameters))
    if not (prompt + negative).count("Negative prompt:"):
        assert found == expected


def test_another_package_reads_the_same() -> None:
    found = parse_infotext(TYPICAL)
    other = AUTOMATIC1111Parser().parse({"parameters": TYPICAL})
    [sampler] = other.samplers
    assert [prompt.value for prompt in sampler.prompts] == [found.prompt]
    assert [prompt.value for prompt in sampler.negative_prompts] == [found.negative_prompt]
    assert sampler.name == found.parameters["Sampler"]
    assert sampler.parameters["seed"] == found.parameters["Seed"]
    assert sampler.model is not None
    assert sampler.model.name == found.parameters["Model"]


@pytest.mark.parametrize("text", ["a" * 10**6, " " * 10**6, 'ab: "' * 10**5, "a-" * 10**5])
def test_hostile_text_is_read(text: str) -> None:
    """Takes hours if the time is quadratic in the text."""
    assert json.dumps(as_a1111(parse_infotext(text)))
