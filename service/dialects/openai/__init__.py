"""The dialect of OpenAI's Images API."""

from fastapi import APIRouter

from service.dialects.dialect import Dialect
from service.dialects.openai import models, routes
from service.dialects.openai.errors import MODELS_ERRORS, OPENAI_ERRORS
from service.settings import DialectName

router = APIRouter()
router.include_router(routes.router)
router.include_router(models.router)

OPENAI = Dialect(
    name=DialectName.OPENAI,
    description="OpenAI's Images API, for its clients.",
    router=router,
    errors={"/v1/images": OPENAI_ERRORS, "/v1/models": MODELS_ERRORS},
)
