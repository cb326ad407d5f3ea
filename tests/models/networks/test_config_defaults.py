"""A key that a published file leaves out has the default of the class that wrote the file."""

from __future__ import annotations

from typing import Any

import pytest
import transformers

from models.networks.config import TextEncoderConfig
from models.networks.safety_checker import VisionConfig


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (TextEncoderConfig.from_dict({}), transformers.CLIPTextConfig()),
        (VisionConfig.from_dict({}), transformers.CLIPVisionConfig()),
    ],
)
def test_defaults_are_those_of_transformers(ours: Any, theirs: Any) -> None:
    for name in ours.__dataclass_fields__:
        if hasattr(theirs, name):
            assert getattr(ours, name) == getattr(theirs, name), name
