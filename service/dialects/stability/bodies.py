"""Request bodies: multipart forms, and JSON with images in base64.

In a form, the list of prompts is `text_prompts[0][text]`, `text_prompts[0][weight]` and so on.
Parts of other names are ignored: clients add an empty file to make their library send a form.
"""

import re
from collections.abc import Collection

from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from protocol.errors import InvalidRequest, UnsupportedMediaType
from service.dialects.lenient import number, read_json
from service.routes.deps import Services
from service.schemas.body_parser import (
    FORM_TYPE,
    JSON_TYPE,
    Fields,
    check_encoding,
    file_content,
    parse_form,
    parse_json_text,
)

PROMPTS = "text_prompts"
PROMPT_PART = re.compile(rf"{PROMPTS}\[([0-9]{{1,9}})\]\[(text|weight)\]")
URL_ENCODED = "application/x-www-form-urlencoded"
MORE_FILES = 2  # beside the known ones


async def read_fields(request: Request, known: Collection[str], services: Services) -> Fields:
    """Return the fields of a body; of a form those in `known`. Raises `InvalidRequest`."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == URL_ENCODED:
        raise UnsupportedMediaType("Content-Type", content_type, f"{FORM_TYPE} or {JSON_TYPE}")
    if content_type == FORM_TYPE:
        fields = await _read_form(request, known)
    else:
        fields = await read_json(request, services.decoding)
    return {name: value for name, value in fields.items() if value is not None and value != ""}


async def _read_form(request: Request, known: Collection[str]) -> Fields:
    check_encoding(request)
    form = await parse_form(request, len(known) + MORE_FILES)
    try:
        fields = {name: await _value(form, name) for name in form if name in known}
    finally:
        await form.close()
    if prompts := _prompts(form):
        fields[PROMPTS] = prompts
    elif isinstance(text := fields.get(PROMPTS), str) and text:
        fields[PROMPTS] = parse_json_text(PROMPTS, text)
    return fields


async def _value(form: FormData, name: str) -> object:
    values = form.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(name, f"given {len(values)} times", "given once", "duplicate-field")
    value = values[0]
    return await file_content(value) if isinstance(value, UploadFile) else value


def _prompts(form: FormData) -> list[Fields]:
    """Return the prompts by their numbers; of a part that is given twice the last counts."""
    prompts: dict[int, Fields] = {}
    for name, value in form.multi_items():
        if (found := PROMPT_PART.fullmatch(name)) is None or value == "":
            continue
        if isinstance(value, UploadFile):
            raise InvalidRequest(name, "a file", "text", "wrong-type")
        prompt = prompts.setdefault(int(found[1]), {})
        prompt[found[2]] = number(value) if found[2] == "weight" else value
    return [prompts[index] for index in sorted(prompts)]
