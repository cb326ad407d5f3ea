"""PEFT's alphas: from the header of a diffusers file, or from the file next to PEFT's own."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoints.files import PEFT_CONFIG, PEFT_METADATA
from models.lora.errors import LoraError
from models.lora.layers import Layer

# A layer's name or the end of one. PEFT takes these as regular expressions: those of an untrusted
# file could run for ever.
_PLAIN_NAME = re.compile(r"\^?[A-Za-z0-9_.]+")


@dataclass(frozen=True)
class PeftConfigs:
    """PEFT's configuration of each component; "" for one configuration of all."""

    by_component: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, file: Path, metadata: Mapping[str, str]) -> PeftConfigs:
        """Return the configurations of a file with this header `metadata`. Raises LoraError."""
        try:
            configs: dict[str, dict[str, Any]] = {}
            if PEFT_METADATA in metadata:
                configs = _by_component(json.loads(metadata[PEFT_METADATA]))
            elif (config_file := file.with_name(PEFT_CONFIG)).exists():
                configs = {"": json.loads(config_file.read_text("utf-8"))}
            for config in configs.values():
                _refuse_unsupported(config)
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise LoraError(f"LoRA {file.stem}: its PEFT configuration is bad: {error}") from error
        return cls(configs)

    def scale(self, layer: Layer, rank: int) -> float:
        """Return alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (Kalajdzievski 2023)."""
        component, path = layer
        config = self.by_component.get(component) or self.by_component.get("", {})
        alpha = config.get("lora_alpha")
        for end, other in (config.get("alpha_pattern") or {}).items():
            whole = path == end.removeprefix("^")
            if whole or (not end.startswith("^") and path.endswith(f".{end}")):
                alpha = other
                break
        if alpha is None:
            return 1.0
        return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_component(entries: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `{"unet.r": 4, …}` as `{"unet": {"r": 4, …}}`."""
    configs: dict[str, dict[str, Any]] = {}
    for key, value in entries.items():
        component, _, name = key.rpartition(".")
        configs.setdefault(component, {})[name] = value
    return configs


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    """Raise ValueError, TypeError or AttributeError for a setting that is not implemented."""
    for switch in ("fan_in_fan_out", "use_dora", "lora_bias"):
        if config.get(switch):
            raise ValueError(f"{switch} is not supported")
    for pattern, alpha in (config.get("alpha_pattern") or {}).items():
        if not _PLAIN_NAME.fullmatch(pattern):
            raise ValueError(f"alpha_pattern {pattern!r} is not the name of a layer")
        float(alpha)
    float(config.get("lora_alpha") or 0)
