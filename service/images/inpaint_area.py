"""The area of an image that is generated if only the surroundings of its mask are.

The arithmetic is that of `get_crop_region` and `expand_crop_region` in AUTOMATIC1111's
modules/masking.py, and of `padding_mask_crop` in diffusers.
"""

from service.images.image_file import Size

Corners = tuple[int, int, int, int]  # left, top, right, bottom


def inpaint_area(marked: Corners, padding: int, aspect: Size, image: Size) -> Corners:
    """Return the box `marked` with `padding` on all sides, extended to the ratio of `aspect`.

    It stays within an image of size `image`, and has another ratio where that is too small.
    """
    left, right = max(0, marked[0] - padding), min(image[0], marked[2] + padding)
    top, bottom = max(0, marked[1] - padding), min(image[1], marked[3] + padding)
    width, height = right - left, bottom - top
    ratio = aspect[0] / aspect[1]
    if width / height > ratio:
        top, bottom = _extended(top, bottom, int(width / ratio - height), image[1])
    else:
        left, right = _extended(left, right, int(height * ratio - width), image[0])
    return left, top, right, bottom


def _extended(start: int, end: int, by: int, limit: int) -> tuple[int, int]:
    """Extend a range on both sides alike, moved so that it is within 0 and `limit`."""
    length = end - start + by
    if length >= limit:
        return 0, limit
    start = max(0, min(start - by // 2, limit - length))
    return start, start + length
