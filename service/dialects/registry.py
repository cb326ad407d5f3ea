"""The dialects that a service speaks."""

from service.dialects.automatic1111 import AUTOMATIC1111
from service.dialects.comfyui import COMFYUI
from service.dialects.dialect import Dialect
from service.dialects.fal import FAL
from service.dialects.huggingface import HUGGINGFACE
from service.dialects.openai import OPENAI
from service.dialects.replicate import REPLICATE
from service.dialects.stability import STABILITY
from service.settings import ServiceSettings

DIALECTS = {
    dialect.name: dialect
    for dialect in (OPENAI, AUTOMATIC1111, STABILITY, REPLICATE, FAL, HUGGINGFACE, COMFYUI)
}


def enabled_dialects(settings: ServiceSettings) -> list[Dialect]:
    """Return the dialects that the settings name."""
    return [DIALECTS[name] for name in dict.fromkeys(settings.dialects)]
