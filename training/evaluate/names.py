"""The prompts of the evaluation, which were chosen before training.

`names.json` has two halves of 150: one may be looked at while settings are tuned, the other only to
report. Each half has 60 everyday emoji and 60 others from the catalogue, the first by the SHA-256
of their names, and 30 phrases of an attribute and an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.icons.sets import read_json

FILE = Path(__file__).with_name("names.json")
HALVES = ("tuning", "held_out")


@dataclass(frozen=True)
class Name:
    """A prompt, the class that its image must show, and the half it belongs to."""

    prompt: str
    label: str
    half: str


def read_names(file: Path = FILE) -> list[Name]:
    """Return all names, the half for tuning first."""
    halves = read_json(file)
    return [Name(prompt, label, half) for half in HALVES for prompt, label in halves[half].items()]


def sample_names(names: list[Name], count: int) -> list[Name]:
    """Return about `count` names, at equal distances, so that both halves are present."""
    return names[:: max(1, len(names) // count)]
