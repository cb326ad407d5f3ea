"""The names that other systems give to models: an owner, a slash, and a name."""

from typing import Annotated

from fastapi import Path

# The owner says nothing here: names of models have no slash, and are those of /v1/models.
OwnerPath = Annotated[str, Path(max_length=200, description="Any text.", examples=["darkroom"])]
ModelPath = Annotated[
    str, Path(max_length=200, description="A model of /v1/models, or an alias.", examples=["tiny"])
]
