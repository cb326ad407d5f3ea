"""The area around a mask, beside the `padding_mask_crop` of diffusers."""

import numpy as np
from diffusers.image_processor import VaeImageProcessor
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.images.inpaint_area import inpaint_area

SIDES = st.integers(1, 80)


@settings(max_examples=200)
@given(st.data(), SIDES, SIDES, SIDES, SIDES, st.integers(0, 40))
def test_area_is_that_of_diffusers(
    data: st.DataObject, width: int, height: int, to_width: int, to_height: int, padding: int
) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 255
    expected = VaeImageProcessor.get_crop_region(
        Image.fromarray(mask), to_width, to_height, padding
    )
    corners = left, top, right, bottom
    area = inpaint_area(corners, padding, (to_width, to_height), (width, height))
    assert area == tuple(int(side) for side in expected)
    assert area[0] <= left < right <= area[2]
    assert area[1] <= top < bottom <= area[3]
