"""The size of an image, from `size` and what the model can generate."""

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard
from protocol.request.sizes import Size, size_bound, size_text
from service.dialects.lenient import parse_size
from service.dialects.sizes import AUTO, best_size

# The sizes that OpenAI's image models have, or had. Clients have them in lists.
FIXED_SIZES = frozenset(
    {
        *((side, side) for side in (256, 512, 1024)),
        *((1024, 1536), (1536, 1024), (1024, 1792), (1792, 1024)),
    }
)


def asked_size(text: str | None) -> Size | None:
    """Return a request's `size`, None for auto. Raises `InvalidRequest`."""
    if text is None or text.strip().lower() in ("", AUTO):
        return None
    return parse_size("size", text)


def possible_size(asked: Size, card: ModelCard, any_model: bool) -> Size:
    """Return the size to generate for one that was asked for.

    `any_model`: the client named none of our models. Then it cannot know their sizes, and one of
    OpenAI's stands for the model's best size of that aspect. Raises `InvalidRequest`.
    """
    if card.allows_size(*asked):
        return asked
    if any_model and asked in FIXED_SIZES:
        return best_size(asked, card)
    bound = f"{AUTO}, or a size that {card.name} can generate: {size_bound(card)}"
    raise InvalidRequest("size", size_text(asked), bound, "size-not-possible")
