"""The provenance of an image file: its digital source type and its content credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from protocol.recipes.provenance import VOCABULARY, XMP_KEY
from service.recipes.credentials import Credentials, CredentialsStatus, read_credentials

# An attribute, an element, or an element with a resource; at most so much is in between.
_SOURCE = re.compile(
    rf"DigitalSourceType.{{0,100}}?({re.escape(VOCABULARY)}[A-Za-z]{{1,100}})", re.DOTALL
)


@dataclass(frozen=True)
class Provenance:
    """The origin that an image file states; None for parts that it does not state."""

    digital_source_type: str | None
    credentials: Credentials | None


def read_provenance(name: str, data: bytes, texts: Mapping[str, str]) -> Provenance:
    """Return the provenance of a file, the value of the field `name`; `texts` are those in it.

    The digital source type is that of the XMP, or else of valid credentials.
    """
    credentials = read_credentials(name, data)
    claimed = None
    if found := _SOURCE.search(texts.get(XMP_KEY, "")):
        claimed = found[1]
    elif credentials is not None and credentials.status is CredentialsStatus.VALID:
        claimed = credentials.digital_source_type or None
    return Provenance(claimed, credentials)
