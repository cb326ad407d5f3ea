"""A small classifier of icons, which judges generated images and gives features for distances."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from training.device import channels_last
from training.grids import from_pixels
from training.runner import learning_rate, set_learning_rate

#: Side of the images that it is trained on.
SIDE = 64
FEATURES = 128
LEARNING_RATE = 2e-3
BATCH = 64


class Classifier(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] -> logits (B, classes); any size, best with sides of 64."""

    def __init__(self, names: list[str], widths: tuple[int, ...] = (24, 48, 96)) -> None:
        super().__init__()
        self.names = names
        layers: list[nn.Module] = []
        before = 3
        for width in (*widths, FEATURES):
            layers += [*_convolution(before, width, 2), *_convolution(width, width, 1)]
            before = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, len(names))
        channels_last(self)

    def features(self, x: Tensor) -> Tensor:
        """Return the averages over all places of the last layer, (B, 128)."""
        features: Tensor = self.layers(x).mean((2, 3))
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits

    @torch.no_grad()
    def judge(self, pixels: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Return features (N, 128) and logits (N, classes) of pixels (N, H, W, 3)."""
        features = torch.cat([self.features(from_pixels(part)) for part in _parts(pixels)])
        return features, self.head(features)

    def save(self, file: Path) -> None:
        """Write weights in half precision, and the names of the classes."""
        file.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: t.half().contiguous() for name, t in self.state_dict().items()}
        save_file(tensors, file, metadata={"names": "\n".join(self.names)})

    @classmethod
    def load(cls, file: Path) -> Classifier:
        """Read the file of `save`, in single precision."""
        with safe_open(file, "pt") as stored:
            network = cls(stored.metadata()["names"].split("\n"))
        network.load_state_dict(load_file(file))
        return network.eval().requires_grad_(False)


def _convolution(before: int, width: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(before, width, 3, stride, 1), nn.GroupNorm(8, width), nn.SiLU()]


def _parts(pixels: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(pixels), 128):
        yield pixels[start : start + 128]


def train(
    names: list[str], pixels: npt.NDArray[np.uint8], classes: npt.NDArray[np.int64], steps: int
) -> Classifier:
    """Train a classifier on pixels (N, 64, 64, 3) of known classes (N,), varied at random."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = Classifier(names)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05, fused=True)
    targets = torch.from_numpy(classes)
    for step in tqdm(range(steps), desc="classifier"):
        set_learning_rate(optimizer, learning_rate(step, steps, LEARNING_RATE, cooldown=0.8))
        chosen = torch.randint(len(pixels), (BATCH,), generator=generator)
        images = varied(from_pixels(pixels[chosen.numpy()]), generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), targets[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


def varied(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror, turn, scale, move and tint images (B, 3, S, S) at random, and blur half of them.

    A generated image may be softer than an icon and still show the right thing: the classifier
    judges the object, other figures the sharpness.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(images), *shape, generator=generator)

    angle, scale = uniform(-0.25, 0.25), uniform(0.8, 1.25)
    mirrored = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [cos * mirrored, -sin, uniform(-0.12, 0.12), sin * mirrored, cos, uniform(-0.12, 0.12)]
    places = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), False)
    # Outside lies white, as the padding of the inverted image is 0.
    moved = 1 - F.grid_sample(1 - images, places, align_corners=False)
    soft = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, 1)
    moved = torch.where(uniform(0, 1, 1, 1, 1) < 0.5, moved, soft)
    tinted = moved * uniform(0.85, 1.1, 3, 1, 1) + uniform(-0.1, 0.1, 3, 1, 1)
    return tinted.clamp(-1, 1) + 0.03 * torch.randn(images.shape, generator=generator)
