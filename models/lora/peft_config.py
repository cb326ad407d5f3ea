"""PEFT's settings: from the header of a diffusers file, or from the file next to PEFT's own."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoints.files import PEFT_CONFIG, PEFT_METADATA, read_json
from models.lora.errors import LoraError
from models.lora.layers import Layer

# A layer's name or the end of one. PEFT takes these as regular expressions: those of an untrusted
# file could run for ever.
_PLAIN_NAME = re.compile(r"\^?[A-Za-z0-9_.]+")

# Settings that make the change another function of the tensors.
_UNSUPPORTED = (
    *("fan_in_fan_out", "use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config"),
    *("kasa_config", "monteclora_config", "layer_replication"),
)
# Beginnings of `init_lora_weights` that also change the model's own weights before training.
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")


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
                configs = {"": read_json(config_file)}
            for config in configs.values():
                _check(config)
        except (ValueError, TypeError, AttributeError, OSError, RecursionError) as error:
            reason = f"has a bad PEFT configuration: {error}"
            raise LoraError(reason, file.stem) from error
        return cls(configs)

    @property
    def with_biases(self) -> bool:
        """Return True if the file may hold biases that replace those of the model."""
        return any(
            config.get("bias") in ("all", "lora_only") for config in self.by_component.values()
        )

    def uses_dora(self, layer: Layer) -> bool:
        """Return True if the change of the layer must have learned lengths."""
        return bool(self._of(layer).get("use_dora"))

    def scale(self, layer: Layer, rank: int | None) -> float:
        """Return alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (Kalajdzievski 2023).

        rank: of the tensors; None if they have none, and the configuration says it.
        """
        config, path = self._of(layer), layer[1]
        alpha = _by_pattern(config, "alpha_pattern", path)
        alpha = config.get("lora_alpha", config.get("alpha")) if alpha is None else alpha
        if rank is None:
            stated = _by_pattern(config, "rank_pattern", path)
            rank = config.get("r") if stated is None else stated
        if alpha is None or rank is None:
            return 1.0
        return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)

    def _of(self, layer: Layer) -> Mapping[str, Any]:
        return self.by_component.get(layer[0]) or self.by_component.get("", {})


def _by_pattern(config: Mapping[str, Any], patterns: str, path: str) -> Any:
    """Return the value of the first pattern that names the layer at `path`, or its end."""
    for end, value in (config.get(patterns) or {}).items():
        whole = path == end.removeprefix("^")
        if whole or (not end.startswith("^") and path.endswith(f".{end}")):
            return value
    return None


def _by_component(entries: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `{"unet.r": 4, …}` as `{"unet": {"r": 4, …}}`."""
    configs: dict[str, dict[str, Any]] = {}
    for key, value in entries.items():
        component, _, name = key.rpartition(".")
        configs.setdefault(component, {})[name] = value
    return configs


def _check(config: Mapping[str, Any]) -> None:
    """Raise ValueError, TypeError or AttributeError for a setting that is not implemented."""
    for switch in _UNSUPPORTED:
        if config.get(switch):
            raise ValueError(f"{switch} is not supported")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise ValueError(
            f"init_lora_weights {start!r} also changed the model: save it as an ordinary LoRA"
        )
    for patterns, least in (("alpha_pattern", -math.inf), ("rank_pattern", 1)):
        for pattern, value in (config.get(patterns) or {}).items():
            if not _PLAIN_NAME.fullmatch(pattern):
                raise ValueError(f"{patterns} {pattern!r} is not the name of a layer")
            _number(patterns, value, least)
    for name, least in (("lora_alpha", -math.inf), ("alpha", -math.inf), ("r", 1)):
        if config.get(name) is not None:
            _number(name, config[name], least)


def _number(name: str, value: Any, least: float) -> None:
    if not math.isfinite(float(value)) or float(value) < least:
        raise ValueError(f"{name} is {value!r}")
