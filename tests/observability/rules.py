"""The shipped alert rules, and a variant of them for tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"
CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
DASHBOARDS = ROOT / "deploy/grafana/dashboards"

Rule = dict[str, Any]


def alerts() -> dict[str, Rule]:
    """Return every rule by the name of its alert."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def immediate_rules() -> str:
    """Return the rules without `for`, and with rates over five seconds instead of five minutes."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    for group in groups:
        for rule in group["rules"]:
            rule.pop("for", None)
            rule["expr"] = re.sub(r"\[5m\]", "[5s]", rule["expr"])
    return yaml.safe_dump({"groups": groups})
