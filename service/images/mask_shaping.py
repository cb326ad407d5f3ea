"""Changes of a mask: hard, inverted, grown, blurred. Masks are images of mode L."""

import math

from PIL import Image, ImageChops, ImageOps

from service.images.masks import marked_pixels

# Weights of the blur have 24 bits, so that sums of pixels times weights have 32.
UNIT = 2**24
LANE = 4  # bytes of such a sum
CUT = 2.5  # standard deviations after which the weights are 0, as in AUTOMATIC1111


def shape_mask(mask: Image.Image, *, hard: bool, invert: bool, grow: int) -> Image.Image:
    """Return `mask`, compared with 128 if `hard`, inverted and grown by `grow` pixels."""
    shaped = marked_pixels(mask) if hard else mask
    return grow_mask(ImageOps.invert(shaped) if invert else shaped, grow)


def grow_mask(mask: Image.Image, pixels: int) -> Image.Image:
    """Give each pixel the largest value up to `pixels` away on each axis; below 0 the smallest."""
    if pixels == 0:
        return mask
    if pixels < 0:
        return ImageOps.invert(grow_mask(ImageOps.invert(mask), -pixels))
    for _ in range(2):
        mask = _largest_of_rows(mask, pixels).transpose(Image.Transpose.TRANSPOSE)
    return mask


def _largest_of_rows(mask: Image.Image, pixels: int) -> Image.Image:
    """Give each pixel the largest value of its column up to `pixels` rows away."""
    width, height = mask.size
    largest, reach = Image.new("L", (width, height + 2 * pixels)), 0
    largest.paste(mask, (0, pixels))
    while reach < pixels:  # three times as far with each comparison
        step = min(max(1, 2 * reach), pixels - reach)
        up, down = (_moved(largest, rows) for rows in (-step, step))
        largest, reach = ImageChops.lighter(ImageChops.lighter(largest, up), down), reach + step
    return largest.crop((0, pixels, width, pixels + height))


def _moved(mask: Image.Image, rows: int) -> Image.Image:
    """Move a mask down by `rows`; what comes in is 0."""
    moved = Image.new("L", mask.size)
    moved.paste(mask, (0, rows))
    return moved


def blur_mask(mask: Image.Image, sigma: int) -> Image.Image:
    """Blur a mask with a Gaussian, rows first, edges mirrored: as cv2.GaussianBlur in
    AUTOMATIC1111."""
    if sigma == 0:
        return mask
    weights = _weights(sigma)
    for _ in range(2):
        mask = _blur_rows(mask, weights).transpose(Image.Transpose.TRANSPOSE)
    return mask


def _weights(sigma: int) -> list[int]:
    """Return the weights of the pixels within `CUT` standard deviations; their sum is `UNIT`."""
    reach = int(CUT * sigma + 0.5)
    exact = [math.exp(-0.5 * (x / sigma) ** 2) for x in range(-reach, reach + 1)]
    weights = [round(weight / sum(exact) * UNIT) for weight in exact]
    weights[reach] += UNIT - sum(weights)
    return weights


def _blur_rows(mask: Image.Image, weights: list[int]) -> Image.Image:
    """Convolve each row with the weights.

    The product of two numbers whose digits, of `LANE` bytes, are the pixels and the weights has the
    convolution as its digits.
    """
    width, height = mask.size
    reach = len(weights) // 2
    kernel = int.from_bytes(
        b"".join(weight.to_bytes(LANE, "little") for weight in weights), "little"
    )
    half = int.from_bytes((UNIT // 2).to_bytes(LANE, "little") * (width + 4 * reach), "little")
    data, rows = mask.tobytes(), []
    for y in range(height):
        row = data[y * width : (y + 1) * width]
        if row.count(row[0]) == width:  # most rows, and nothing to compute
            rows.append(row)
            continue
        digits = bytearray(LANE * (width + 2 * reach))
        digits[::LANE] = _mirrored(row, reach)
        product = int.from_bytes(digits, "little") * kernel + half
        sums = product.to_bytes(LANE * (width + 4 * reach) + 1, "little")
        start = LANE * 2 * reach + LANE - 1  # the high byte of the first whole sum
        rows.append(sums[start : start + LANE * width : LANE])
    return Image.frombytes("L", (width, height), b"".join(rows))


def _mirrored(row: bytes, reach: int) -> bytes:
    """Continue a row on both sides by its mirror image, without the pixel at the edge twice."""
    cycle = row + row[-2:0:-1]
    start = -reach % len(cycle)
    length = start + len(row) + 2 * reach
    return (cycle * (length // len(cycle) + 1))[start:length]
