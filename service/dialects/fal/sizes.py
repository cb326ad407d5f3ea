"""fal's `image_size`: a name, or an object with width and height."""

from collections.abc import Mapping

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard
from protocol.request.sizes import Size
from service.dialects.lenient import integer
from service.dialects.sizes import best_size, sides
from service.schemas.body_parser import Fields

IMAGE_SIZE = "image_size"
SIDES = ("width", "height")
NAMED: Mapping[str, Size] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}


def size_fields(value: object, card: ModelCard) -> tuple[Fields, dict[str, str]]:
    """Return our fields for an `image_size`, and the client's names of them.

    A name whose size the model cannot generate means the model's best size of that aspect.
    Raises `InvalidRequest` for what is no size.
    """
    match value:
        case None | "":
            return {}, {}
        case str() if (size := NAMED.get(value)) is not None:
            found = size if card.allows_size(*size) else best_size(size, card)
            return sides(found), dict.fromkeys(SIDES, IMAGE_SIZE)
        case {"width": width, "height": height}:
            ours: Fields = {"width": integer(width), "height": integer(height)}
            return ours, {side: f"{IMAGE_SIZE}.{side}" for side in SIDES}
    bound = f"one of {', '.join(NAMED)}, or an object with width and height"
    raise InvalidRequest(IMAGE_SIZE, value, bound, "unknown-choice")
