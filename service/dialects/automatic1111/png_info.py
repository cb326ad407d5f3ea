"""POST png-info: the infotext in an image."""

from anyio import to_thread
from fastapi import APIRouter, Request

from protocol.recipes.infotext import Infotext, parse_infotext
from protocol.recipes.names import INFOTEXT_KEY
from service.dialects.automatic1111.description import READ, WRITE, body, errors
from service.dialects.automatic1111.requests import PngInfo, parse_body
from service.dialects.automatic1111.responses import PngInfoAnswer
from service.dialects.automatic1111.timed_route import PREFIX, TimedRoute
from service.dialects.lenient import file_field, read_json
from service.recipes.file_texts import file_texts
from service.routes.deps import ServicesDep
from service.routes.submission import fetched
from service.schemas.body_parser import Fields
from service.schemas.data_uri import decode_file
from service.schemas.examples import IMAGE

router = APIRouter(prefix=PREFIX, route_class=TimedRoute, responses=errors(*READ, *WRITE))

# What AUTOMATIC1111 adds to parameters that lack it.
DEFAULTS = {"Clip skip": "1", "Hires resize-1": "0", "Hires resize-2": "0", "RNG": "GPU"}
DEFAULTS |= {"Schedule type": "Automatic", "Hires sampler": "Use same sampler"}


@router.post("/png-info", openapi_extra=body(PngInfo, {"image": IMAGE}))
async def webui_png_info(request: Request, services: ServicesDep) -> PngInfoAnswer:
    """Read the infotext of a PNG, JPEG, WebP or AVIF file; it is not decoded."""
    await services.admission.count(request.scope["user"])
    request.scope["field_names"] = {"image_url": "image"}
    asked = parse_body(PngInfo, await read_json(request, services.decoding))
    fields = await fetched(file_field("image", asked.image.strip()), request, services)
    return await to_thread.run_sync(_read, fields, limiter=services.decoding)


def _read(fields: Fields) -> PngInfoAnswer:
    texts = file_texts("image", decode_file("image", fields["image"]))
    infotext = texts.pop(INFOTEXT_KEY, "")
    parsed = parse_infotext(infotext)
    return PngInfoAnswer(info=infotext, items=texts, parameters=_parameters(parsed))


def _parameters(infotext: Infotext) -> dict[str, str]:
    """Return the parameters as AUTOMATIC1111 does: sizes as two numbers, and its defaults."""
    found = {"Prompt": infotext.prompt, "Negative prompt": infotext.negative_prompt}
    for key, text in infotext.parameters.items():
        width, mark, height = text.partition("x")
        if mark and width.isdecimal() and height.isdecimal():
            found |= {f"{key}-1": width, f"{key}-2": height}
        else:
            found[key] = text
    return DEFAULTS | found if infotext.parameters else {}
