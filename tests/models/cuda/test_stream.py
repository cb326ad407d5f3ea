"""Images decoded in a separate thread and stream: equal, in order, and with their errors."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from models.cuda.stream import StreamedDecoder
from models.pipeline import LatentDiffusion

CPU = torch.device("cpu")


def test_images_equal_those_decoded_in_place(tiny_sd: LatentDiffusion) -> None:
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with StreamedDecoder(CPU) as decoder:
        futures = [decoder.decode_async(one, tiny_sd.decode) for one in latents]
        images = [future.result() for future in futures]
    for one, image in zip(latents, images, strict=True):
        assert torch.equal(image, tiny_sd.decode(one[None])[0])


def test_caller_does_not_wait() -> None:
    """The decoder is blocked until two calls were made: the calls cannot have waited for it."""
    submitted = threading.Event()
    order: list[float] = []

    def decode(latents: Tensor) -> Tensor:
        assert submitted.wait(timeout=30)
        order.append(float(latents.sum()))
        return latents

    with StreamedDecoder(CPU) as decoder:
        futures = [decoder.decode_async(torch.full((1, 1, 1), float(i)), decode) for i in range(2)]
        assert not any(future.done() for future in futures)
        submitted.set()
        assert [float(future.result()) for future in futures] == order == [0.0, 1.0]


def test_error_reaches_the_caller_and_the_next_is_decoded() -> None:
    def decode(latents: Tensor) -> Tensor:
        if latents.sum() < 0:
            raise RuntimeError("cannot decode")
        return latents

    with StreamedDecoder(CPU) as decoder:
        bad, good = (decoder.decode_async(torch.full((1,), v), decode) for v in (-1.0, 1.0))
        with pytest.raises(RuntimeError, match="cannot decode"):
            bad.result()
        assert float(good.result()) == 1.0


@pytest.mark.gpu
def test_a_stream_waits_for_what_writes_the_latents() -> None:
    device = torch.device("cuda")
    with StreamedDecoder(device) as decoder:
        for number in range(20):
            # A slow product, and latents that depend on it.
            large = torch.ones(4096, 4096, device=device)
            latents = (large @ large)[:1, :1] / 4096 * number
            assert float(decoder.decode_async(latents, Tensor.cpu).result()) == number
