"""Scripts of AUTOMATIC1111's extensions: ControlNet is one of them, no other is here.

Clients send the arguments of every script that they know, switched off. Those are accepted; a
script that would change the image is refused as one that is not installed.
"""

from collections.abc import Mapping, Sequence

from service.dialects.automatic1111.errors import ScriptNotFound
from service.dialects.automatic1111.requests import Generation

CONTROLNET, ADETAILER = "controlnet", "adetailer"
FACE_SWAPPERS = frozenset({"roop", "reactor"})  # their second argument switches them on
OFF = frozenset({"", "none"})

Arguments = Sequence[object]


def controlnet_arguments(body: Generation) -> Arguments:
    """Return the units of the script ControlNet.

    Raises `ScriptNotFound` for any other script that is not switched off.
    """
    if body.script_name.strip().lower() not in OFF:
        raise ScriptNotFound("script_name", body.script_name)
    units: Arguments = ()
    for name, script in body.alwayson_scripts.items():
        arguments = _arguments(script)
        if name.lower() == CONTROLNET:
            units = [*units, *arguments]
        elif not _is_off(name.lower(), arguments):
            raise ScriptNotFound("alwayson_scripts", name)
    return units


def _arguments(script: object) -> Arguments:
    """Return the arguments of a script, which some clients send without the object around them."""
    found = script.get("args") if isinstance(script, Mapping) else script
    match found:
        case None | "" | {}:
            return ()
        case list():
            return found
        case _:
            return (found,)


def _is_off(name: str, arguments: Arguments) -> bool:
    """Return True if a script with these arguments changes nothing."""
    if not any(arguments) or arguments[0] is False:
        return True
    if name in FACE_SWAPPERS and len(arguments) > 1:
        return arguments[1] is False
    objects = [argument for argument in arguments if isinstance(argument, Mapping)]
    if name == ADETAILER:
        return all(str(one.get("ad_model") or "").lower() in OFF for one in objects)
    return len(objects) == len(arguments) and all(one.get("enabled") is False for one in objects)
