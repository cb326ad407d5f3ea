"""Decoding of images in parallel with denoising: on a separate stream, from a separate thread.

The decoder's kernels run where the batch leaves room on the GPU, and the engine's thread never
waits for an image. Images are decoded one by one, which costs nothing (the time is proportional to
their number) and makes each independent of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Self

import torch
from torch import Tensor

Decode = Callable[[Tensor], Tensor]


class StreamedDecoder:
    """Decodes latents in the order of calls; close it, or use it as a context."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # The lowest priority, which is also the default: the batch is recorded with a higher one.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoder")

    def decode_async(self, latents: Tensor, decode: Decode) -> Future[Tensor]:
        """Decode latents (C, h, w), which must not change any more, to an image (H, W, 3).

        decode: latents (1, C, h, w) -> an image (1, H, W, 3), uint8 on the CPU; its exception
        becomes that of the future. The GPU first finishes the work submitted to the current stream
        so far.
        """
        written = None
        if self._stream is not None:
            # The latents' memory must not be reused before the stream has read it.
            latents.record_stream(self._stream)
            written = torch.cuda.current_stream(self._device).record_event()
        return self._thread.submit(self._decode, latents, decode, written)

    def close(self) -> None:
        """Wait for all submitted work."""
        self._thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _decode(self, latents: Tensor, decode: Decode, written: torch.cuda.Event | None) -> Tensor:
        on_stream = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with on_stream:
            if self._stream is not None and written is not None:
                self._stream.wait_event(written)
            return decode(latents[None])[0]
