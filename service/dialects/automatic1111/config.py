"""GET /config: what Gradio, on which AUTOMATIC1111's page is built, says of that page."""

from fastapi import APIRouter

from protocol.recipes.request_infotext import program_version
from service.dialects.automatic1111.description import READ, errors
from service.dialects.automatic1111.responses import ConfigAnswer
from service.dialects.automatic1111.timed_route import TimedRoute

router = APIRouter(route_class=TimedRoute, responses=errors(*READ))


@router.get("/config")
async def webui_config() -> ConfigAnswer:
    """Get the parts of the page: there are none here."""
    return ConfigAnswer(version=program_version(), components=[])
