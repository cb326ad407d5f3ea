"""The infotext of AUTOMATIC1111's web interface: prompts, and a last line of parameters.

    a slice of pizza
    Negative prompt: olives
    Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512

Its source, version 1.10: modules/infotext_utils.py, and `create_infotext` of modules/processing.py.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_INFOTEXT = 2**18  # characters that are parsed
NEGATIVE = "Negative prompt:"
LEAST_PARAMETERS = 3  # of a line that is not part of the prompt

# Finds the parameters that `re_param_code` does, and in between what could be a key but has no
# colon: so no character is looked at for every character before it, and time is linear.
_PARAMETER = re.compile(
    r"""
      (?P<key>\w[\w \-/]++)
      (?: :\s*+ (?P<value> "(?:\\.|[^\\"])++" | [^,]*+ ) (?:,|$) )?
    """,
    re.VERBOSE,
)
# Besides what AUTOMATIC1111 quotes, what its parser would take for quotes or for separators.
_SPECIAL = re.compile(r'[,:\n"]|^\s|\s$')


@dataclass(frozen=True)
class Infotext:
    """Prompts and parameters in their order; parameters are text."""

    prompt: str = ""
    negative_prompt: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def write_infotext(infotext: Infotext) -> str:
    """Return the infotext. Parameters with commas, colons or line breaks are quoted."""
    lines = [infotext.prompt]
    if infotext.negative_prompt:
        lines.append(f"{NEGATIVE} {infotext.negative_prompt}")
    lines.append(", ".join(f"{key}: {_quoted(text)}" for key, text in infotext.parameters.items()))
    return "\n".join(lines).strip()


def parse_infotext(text: str) -> Infotext:
    """Return an infotext parsed, as AUTOMATIC1111 reads it. Never raises.

    Text without parameters is a prompt. Of longer text than `MAX_INFOTEXT` the end is not read.
    """
    *lines, last = text[:MAX_INFOTEXT].strip().split("\n")
    found = _PARAMETER.finditer(last)
    parameters = [(one["key"], one["value"]) for one in found if one["value"] is not None]
    if len(parameters) < LEAST_PARAMETERS:
        lines, parameters = [*lines, last], []
    lines = [line.strip() for line in lines]
    start = next((i for i, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    negative = [line.removeprefix(NEGATIVE).strip() for line in lines[start:]]
    return Infotext(
        "\n".join(lines[:start]),
        "\n".join(negative).lstrip("\n"),
        {key: _unquoted(value) for key, value in parameters},
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if _SPECIAL.search(text) else text


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text
