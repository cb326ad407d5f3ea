"""Tables of regular expressions that rename keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from models.checkpoints.parts import Cut, Part, Plan, whole


@dataclass(frozen=True)
class Rule:
    """Keys that match `pattern` wholly are called `name`, a template of `re.Match.expand`."""

    pattern: str
    name: str
    cut: Cut = whole

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)


def apply(rules: Iterable[Rule], keys: Iterable[str]) -> Plan:
    """Where each parameter comes from; a key may feed several, one that no rule knows feeds none.

    Every rule that matches counts, so a stacked matrix has a rule for each of its parts.
    """
    rules = tuple(rules)
    plan: Plan = {}
    for key in keys:
        for rule in rules:
            if match := rule.compiled.fullmatch(key):
                plan[match.expand(rule.name)] = Part(key, rule.cut)
    return plan


def renamed(table: Mapping[str, str], before: str, after: str) -> list[Rule]:
    """Rules for modules: `before`.old.{weight,bias} becomes `after`.new.{weight,bias}.

    The groups of `before` go by number into `after`, a template.
    """
    return [
        Rule(rf"{before}{re.escape(old)}(?P<rest>(?:\..*)?)", rf"{after}{new}\g<rest>")
        for old, new in table.items()
    ]
