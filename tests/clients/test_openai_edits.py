"""Client packages of OpenAI's API, unpatched: edits and variations."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.clients.clients import Action, Client
from tests.clients.conftest import Ask
from tests.clients.openai_requests import PROMPT, images, that
from tests.clients.stack import MODEL
from tests.service.sample_images import gradient, in_base64, packed, same


@that(Action.EDIT)
def test_edits_one_image(client: Client, ask: Ask) -> None:
    image = gradient(128, 64)
    answer = ask(
        "edit", prompt=PROMPT, model=MODEL, size="128x64", images=[in_base64(packed(image))]
    )
    (edited,) = images(answer)
    assert edited.size == image.size
    assert not same(edited, image)


@that(Action.EDIT_SEVERAL)
def test_edits_several_images(client: Client, ask: Ask) -> None:
    files = [in_base64(packed(gradient(64, 64))), in_base64(packed(gradient(64, 96)))]
    answer = ask("edit", prompt=PROMPT, model=MODEL, size="128x64", images=files)
    (edited,) = images(answer)
    assert edited.size == (128, 64)


@that(Action.MASK)
def test_edits_where_the_mask_is_transparent(client: Client, ask: Ask) -> None:
    image, mask = gradient(128, 128), Image.new("RGBA", (128, 128), "black")
    mask.paste((0, 0, 0, 0), (0, 0, 64, 128))
    answer = ask(
        "edit",
        prompt=PROMPT,
        model=MODEL,
        size="128x128",
        images=[in_base64(packed(image))],
        mask=in_base64(packed(mask)),
    )
    (edited,) = images(answer)
    before, after = np.asarray(image), np.asarray(edited.convert("RGB"))
    assert np.array_equal(before[:, 72:], after[:, 72:])
    assert not np.array_equal(before[:, :56], after[:, :56])


@that(Action.VARIATION)
def test_varies_an_image(client: Client, ask: Ask) -> None:
    image = in_base64(packed(gradient(256, 256)))
    answer = ask("variation", image=image, n=2, size="256x256", response_format="b64_json")
    first, second = images(answer)
    assert first.size == second.size == (256, 256)
    assert not same(first, second)
