"""The recipe in an image file: which program wrote it, its parameters, and our request for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from protocol.recipes.infotext import parse_infotext
from protocol.recipes.names import INFOTEXT_KEY, OUR_KEY
from protocol.recipes.recipe import Recipe, recipe_of_infotext, recipe_of_request
from protocol.request.object_keys import OutputFormat
from service.recipes import other_programs
from service.recipes.file_texts import file_texts, image_format
from service.recipes.json_texts import Scalars, read_object, scalars


class Source(StrEnum):
    """The program that wrote a recipe. Programs that write its infotext are automatic1111, too."""

    DARKROOM = "darkroom"
    AUTOMATIC1111 = "automatic1111"
    INVOKEAI = "invokeai"
    COMFYUI = "comfyui"
    NOVELAI = "novelai"
    FOOOCUS = "fooocus"


@dataclass(frozen=True)
class ImageRecipe:
    """The texts of a file and what they say; `source` is None if no recipe was found."""

    texts: Mapping[str, str]
    source: Source | None = None
    recipe: Recipe | None = None
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)


_NOT_DEFAULT = frozenset(OutputFormat) - {OutputFormat.PNG}
OTHERS: dict[Source, Callable[[Mapping[str, str]], Scalars]] = {
    Source.INVOKEAI: other_programs.invokeai,
    Source.COMFYUI: other_programs.comfyui,
    Source.NOVELAI: other_programs.novelai,
}


def read_recipe(name: str, data: bytes) -> ImageRecipe:
    """Return the recipe in an image file, the value of the field `name`.

    Raises `InvalidRequest` for other files, and for those with too many parts or too much text.
    """
    texts = file_texts(name, data)
    ours = texts.get(OUR_KEY, "")
    if (recipe := recipe_of_request(ours)) is not None:
        return ImageRecipe(texts, Source.DARKROOM, recipe, scalars(read_object(ours)))
    if found := other_programs.fooocus(texts):
        return ImageRecipe(texts, Source.FOOOCUS, parameters=found)
    infotext = parse_infotext(texts.get(INFOTEXT_KEY, ""))
    if (recipe := recipe_of_infotext(infotext)) is not None:
        source = Source.DARKROOM if is_ours(infotext.parameters) else Source.AUTOMATIC1111
        recipe.fields.update(_output_format(data))
        return ImageRecipe(texts, source, recipe, infotext.parameters)
    for source, read in OTHERS.items():
        if found := read(texts):
            return ImageRecipe(texts, source, parameters=found)
    return ImageRecipe(texts)


def _output_format(data: bytes) -> dict[str, str]:
    """Return the field for the format of the file, if it is not the default and we can write it."""
    name = image_format(data)
    return {"output_format": name} if name in _NOT_DEFAULT else {}


def is_ours(parameters: Mapping[str, str]) -> bool:
    """Return True if Darkroom wrote the infotext."""
    return parameters.get("Version", "").startswith("Darkroom")
