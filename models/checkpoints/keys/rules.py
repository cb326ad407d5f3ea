"""Rules that rename keys by regular expressions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from models.checkpoints.key_plan import Cut, KeyPlan, KeySource, whole


@dataclass(frozen=True)
class Rule:
    """Renames the keys that match `pattern` fully to `name`, a template of `re.Match.expand`."""

    pattern: str
    name: str
    cut: Cut = whole

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(rf"\A(?:{self.pattern})\Z")


def apply(rules: Iterable[Rule], keys: Iterable[str]) -> KeyPlan:
    """Return the key plan that the rules make; a key without a matching rule is left out.

    Every matching rule applies: a stacked matrix has a rule for each of its parameters.
    """
    rules = tuple(rules)
    plan: KeyPlan = {}
    for key in keys:
        for rule in rules:
            if rule.compiled.match(key):
                # Templates of `sub` are cached, unlike those of `Match.expand`.
                plan[rule.compiled.sub(rule.name, key)] = KeySource(key, rule.cut)
    return plan


def renamed(table: Mapping[str, str], before: str, after: str) -> list[Rule]:
    """Return rules for modules: `before`.old.{weight,bias} becomes `after`.new.{weight,bias}.

    `after` is a template; it refers to the groups of `before` by number.
    """
    return [
        Rule(rf"{before}{re.escape(old)}(?P<rest>(?:\..*)?)", rf"{after}{new}\g<rest>")
        for old, new in table.items()
    ]
