"""The keys of textual inversion embeddings (Gal et al. 2022), as data.

emb_params                             AUTOMATIC1111's web interface, safetensors
string_to_param.*, string_to_token.*   the published code; its placeholder, often "*", at the end
<placeholder>                          diffusers
clip_l, clip_g                         SDXL: one for each text encoder
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

VECTORS = "emb_params"
SDXL = ("clip_l", "clip_g")
_VECTORS_OF = "string_to_param."
ANY_PLACEHOLDER = f"{_VECTORS_OF}*"
_TOKEN_OF = "string_to_token."


def is_inversion_key(key: str) -> bool:
    """Return True for a key of the vectors of a placeholder in the published form."""
    return key.startswith(_VECTORS_OF)


def vector_keys(keys: Collection[str]) -> list[str]:
    """Return the keys that hold vectors, without those of the tokens' numbers."""
    return sorted(key for key in keys if not key.startswith(_TOKEN_OF))


def placeholders(keys: Iterable[str]) -> list[str]:
    """Return the words that the files' prompts had for the embedding, in place of its name."""
    known = {VECTORS, *SDXL, ANY_PLACEHOLDER}
    return [key.removeprefix(_VECTORS_OF) for key in keys if key not in known]
