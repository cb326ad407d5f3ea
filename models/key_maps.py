"""Other spellings of parameter names that published files use, as data.

The networks are named after today's diffusers layout; a file in another spelling is renamed
while it is read.
"""

from __future__ import annotations

import re

# Autoencoders published before diffusers 0.15 name the four linear maps of their attention so.
_LEGACY_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_LEGACY_ATTENTION_KEY = re.compile(r"(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(.*)")

# A buffer that old text encoders stored beside their weights: just 0, 1, 2, …; and the head that
# the BERT of the paper's models was made with and never asked.
_NOT_WEIGHTS = ("position_ids", "to_logits.weight", "to_logits.bias")


def canonical_name(name: str) -> str | None:
    """The name that the networks use for the file's `name`, or None for what is no weight."""
    if name.endswith(_NOT_WEIGHTS):
        return None
    if match := _LEGACY_ATTENTION_KEY.fullmatch(name):
        path, old, rest = match.groups()
        return f"{path}.{_LEGACY_ATTENTION[old]}.{rest}"
    return name
