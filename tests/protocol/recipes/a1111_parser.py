"""AUTOMATIC1111's reading of an infotext, written down from its source for comparison.

`parse_generation_parameters` of modules/infotext_utils.py at commit 0365002, without the defaults
that it adds for missing parameters.
"""

from __future__ import annotations

import json
import re

PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SIZE = re.compile(r"^(\d+)x(\d+)$")


def parse(text: str) -> dict[str, str]:
    """Return prompt, negative prompt and parameters by name; sizes as two numbers."""
    *lines, last = text.strip().split("\n")
    if len(PARAMETER.findall(last)) < 3:
        lines.append(last)
        last = ""
    found = {"Prompt": "", "Negative prompt": ""}
    key = "Prompt"
    for line in map(str.strip, lines):
        if line.startswith("Negative prompt:"):
            key, line = "Negative prompt", line[16:].strip()
        found[key] += ("" if found[key] == "" else "\n") + line
    for name, value in PARAMETER.findall(last):
        plain = _unquoted(value)
        if size := SIZE.match(plain):
            found |= {f"{name}-1": size[1], f"{name}-2": size[2]}
        else:
            found[name] = plain
    return found


def _unquoted(value: str) -> str:
    if not value or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
