"""The names that other systems give to samplers and schedules."""

from protocol.request.samplers import SAMPLERS, SCHEDULE_TITLES
from service.schemas.body_parser import Fields


def _key(name: str) -> str:
    """Return a name without what its spellings differ in."""
    return name.casefold().replace("_", "").replace("-", "").replace(" ", "")


_SAMPLERS = {
    _key(spelling): name
    for name, info in SAMPLERS.items()
    for spelling in (name, info.title, f"k_{name}", info.scheduler or name)
}
_SCHEDULES = {
    _key(spelling): name
    for name, title in SCHEDULE_TITLES.items()
    for spelling in (name, title)
    if _key(name) not in _SAMPLERS
}


def sampler_fields(text: str) -> Fields:
    """Return our fields for a name: `sampler`, `schedule`, or both ("DPM++ 2M Karras").

    The names are ours, the titles of AUTOMATIC1111's web interface and the scheduler classes of
    diffusers, in any case. An unknown name is a sampler, which validation will refuse.
    """
    key = _key(text)
    if key in _SAMPLERS:
        return {"sampler": _SAMPLERS[key]}
    if key in _SCHEDULES:
        return {"schedule": _SCHEDULES[key]}
    for ending, schedule in _SCHEDULES.items():
        if key.endswith(ending) and (start := key.removesuffix(ending)) in _SAMPLERS:
            return {"sampler": _SAMPLERS[start], "schedule": schedule}
    return {"sampler": text}
