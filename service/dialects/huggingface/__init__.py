"""The dialect of Hugging Face's inference API."""

from service.dialects.dialect import Dialect
from service.dialects.huggingface.errors import HUGGINGFACE_ERRORS
from service.dialects.huggingface.routes import router
from service.settings import DialectName

HUGGINGFACE = Dialect(
    name=DialectName.HUGGINGFACE,
    description="Hugging Face's inference API, for its clients.",
    router=router,
    errors=dict.fromkeys(("/models", "/hf-inference"), HUGGINGFACE_ERRORS),
)
