"""Sound from amplitudes alone: the phases that fit them are looked for.

Griffin & Lim 1984, "Signal Estimation from Modified Short-Time Fourier Transform", with the
momentum of Perraudin, Balazs & Sondergaard 2013, "A Fast Griffin-Lim Algorithm".
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.sound.scale import SoundScale

ITERATIONS = 32
MOMENTUM = 0.99


def griffin_lim(amplitudes: Tensor, generator: torch.Generator, scale: SoundScale) -> Tensor:
    """(channels, bins, columns) float32 -> (channels, samples), from random phases.

    There is hop * (columns - 1) of sound, which must be more than half a padded window.
    """
    shape = amplitudes.shape
    window = torch.hann_window(scale.window)
    phases = torch.rand(shape, dtype=torch.complex64, generator=generator)
    before = torch.zeros_like(phases)
    for _ in range(ITERATIONS):
        heard = _analysis(_synthesis(amplitudes * phases, window, scale), window, scale)
        ahead = heard - before * (MOMENTUM / (1 + MOMENTUM))
        phases = ahead / (ahead.abs() + 1e-16)
        before = heard
    return _synthesis(amplitudes * phases, window, scale)


def _analysis(sound: Tensor, window: Tensor, scale: SoundScale) -> Tensor:
    return torch.stft(sound, scale.n_fft, scale.hop, scale.window, window, return_complex=True)


def _synthesis(spectrum: Tensor, window: Tensor, scale: SoundScale) -> Tensor:
    return torch.istft(spectrum, scale.n_fft, scale.hop, scale.window, window)
