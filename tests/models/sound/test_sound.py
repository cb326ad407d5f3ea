"""Images of known sounds, synthesised: the same tones, loudness and length result.

The images are made here, from the published description of riffusion's spectrograms and not by the
code under test.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import scipy.signal
from numpy.typing import NDArray

from models.sound import MIN_WIDTH, RIFFUSION, SoundScale, amplitudes, mel, synthesise

FloatArray = NDArray[np.float64]

RATE = 44100
COLUMNS = 61  # 0.6 s
BANDS = 512


def seconds(columns: int = COLUMNS) -> FloatArray:
    return np.arange(441 * (columns - 1)) / RATE


@cache
def band_middles(bands: int) -> FloatArray:
    """Return Hz of each band, by the inverse of the mel formula."""
    top = 2595 * np.log10(1 + 10000 / 700)
    return np.array([700 * (10 ** (top * (i + 1) / (bands + 1) / 2595) - 1) for i in range(bands)])


def image_of(sound: FloatArray, bands: int = BANDS) -> NDArray[np.uint8]:
    """Return (bands, columns, 3): the spectrogram image that riffusion makes of one channel."""
    padded = np.pad(sound, 8820, mode="reflect")
    window = scipy.signal.get_window("hann", 4410)
    frames = [
        np.abs(np.fft.rfft(padded[start + 6615 : start + 11025] * window, 17640))
        for start in range(0, len(padded) - 17640 + 1, 441)
    ]
    synthesised = triangles(bands) @ np.stack(frames, axis=1)
    loudness = (synthesised / synthesised.max()) ** 0.25
    grey = (255 - 255 * loudness).astype(np.uint8)[::-1]
    return np.stack([grey] * 3, axis=-1)


@cache
def triangles(bands: int) -> FloatArray:
    """Return (bands, bins): each band's weights, 1 at its middle and 0 at its neighbours'."""
    middles = np.array([0.0, *band_middles(bands), 10000.0])
    frequencies = np.arange(8821) * 2.5
    ears = [np.interp(frequencies, middles[i : i + 3], [0, 1, 0]) for i in range(bands)]
    return np.array(ears)


def loudest(sound: FloatArray, count: int) -> list[float]:
    """Return Hz of the strongest tones."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    frequency = np.fft.rfftfreq(len(sound), 1 / RATE)
    peaks, _ = scipy.signal.find_peaks(spectrum, distance=int(60 * len(sound) / RATE))
    strongest = peaks[np.argsort(spectrum[peaks])[::-1][:count]]
    return sorted(float(f) for f in frequency[strongest])


@cache
def chord() -> tuple[FloatArray, NDArray[np.float32]]:
    """Return three tones, of which the middle one stops half-way, and the sound of their image."""
    t = seconds()
    high = np.where(t < 0.3, np.sin(2 * np.pi * 1500 * t), 0.0)
    sound = np.sin(2 * np.pi * 300 * t) + high + 0.7 * np.sin(2 * np.pi * 4000 * t)
    return sound, synthesise(image_of(sound), seed=3)


def test_filters_are_the_triangles_of_the_formula() -> None:
    """Sampled points, with band and bin computed from the HTK formula alone."""
    weights = mel.filters(BANDS, RIFFUSION)
    assert weights.shape == (8821, BANDS)
    middles = np.array([0.0, *band_middles(BANDS), 10000.0])
    for band, bin_ in [(0, 1), (0, 2), (7, 13), (100, 201), (100, 203), (300, 1215), (511, 3985)]:
        left, middle, right = middles[band : band + 3]
        frequency = bin_ * 2.5
        side = (frequency - left) / (middle - left), (right - frequency) / (right - middle)
        assert weights[bin_, band] == pytest.approx(max(0.0, min(side)), abs=1e-9)
    assert (weights > 0).any(axis=0).all()
    assert not weights[4001:].any()  # above 10 kHz
    assert weights.sum(axis=1)[10:3900] == pytest.approx(1, abs=1e-9)  # neighbours share a tone


def test_bands_are_restored() -> None:
    synthesised = np.random.default_rng(0).random((1, BANDS, 4))
    weights = mel.filters(BANDS, RIFFUSION)
    smooth = np.maximum(weights @ synthesised, 0)  # a possible sound
    again = weights.T @ mel.inverse(weights.T @ smooth, RIFFUSION)
    assert again == pytest.approx(weights.T @ smooth, rel=1e-3)


def test_image_rows_are_bands_from_the_bottom() -> None:
    image = np.full((4, 5, 3), 255, np.uint8)
    image[3, 2], image[0, 1, 1], image[0, 1, 2] = 0, 127, 51
    mono = amplitudes(image, stereo=False)
    assert (mono.shape, mono[0, 0, 2], mono[0, 3, 1]) == ((1, 4, 5), 30e6, 0.0)
    stereo = amplitudes(image, stereo=True)
    assert stereo[:, 3, 1] == pytest.approx([30e6 * (128 / 255) ** 4, 30e6 * 0.8**4])


def test_tones_are_restored() -> None:
    sound, again = chord()
    assert again.shape == (len(sound), 1)
    assert loudest(again[:, 0].astype(float), 3) == pytest.approx([300, 1500, 4000], abs=6)


def test_tone_ends_at_its_time() -> None:
    sound, again = chord()
    band = scipy.signal.butter(4, [1300, 1700], "bandpass", fs=RATE, output="sos")

    def strength(of: FloatArray, begin: float, end: float) -> float:
        synthesised = scipy.signal.sosfiltfilt(band, of)[int(begin * RATE) : int(end * RATE)]
        return float(np.sqrt(np.mean(synthesised**2)))

    ours = again[:, 0].astype(float)
    assert strength(ours, 0.08, 0.22) > 8 * strength(ours, 0.4, 0.55)
    loud = strength(ours, 0.08, 0.22) / strength(sound, 0.08, 0.22)
    low = np.sqrt(np.mean(ours[: RATE // 4] ** 2)) / np.sqrt(np.mean(sound[: RATE // 4] ** 2))
    assert loud == pytest.approx(low, rel=0.35)


def test_a_rising_tone_rises() -> None:
    t = seconds()
    sound = np.sin(2 * np.pi * (500 * t + 1000 * t**2))  # 500 + 2000 t Hz
    again = synthesise(image_of(sound), seed=0)[:, 0].astype(float)
    for moment in (0.15, 0.3, 0.45):
        middle = int(moment * RATE)
        part = again[middle - 2205 : middle + 2205]
        assert loudest(part, 1) == pytest.approx([500 + 2000 * moment], abs=60)


def test_left_is_green_and_right_is_blue() -> None:
    t = seconds(31)
    left, right = (image_of(np.sin(2 * np.pi * f * t)) for f in (400, 3000))
    image = np.stack([np.zeros_like(left[..., 0]), left[..., 0], right[..., 0]], axis=-1)
    again = synthesise(image, seed=1, stereo=True).astype(float)
    assert again.shape == (len(t), 2)
    assert loudest(again[:, 0], 1) == pytest.approx([400], abs=6)
    assert loudest(again[:, 1], 1) == pytest.approx([3000], abs=12)


def test_other_heights_cover_the_same_scale() -> None:
    t = seconds(41)
    again = synthesise(image_of(np.sin(2 * np.pi * 2000 * t), bands=128), seed=1)
    assert loudest(again[:, 0].astype(float), 1) == pytest.approx([2000], abs=40)


def test_seed_determines_the_phases() -> None:
    image = image_of(np.sin(2 * np.pi * 700 * seconds(24)), bands=64)
    one, same, other = (synthesise(image, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_clips_are_equally_loud() -> None:
    """Peaks are at -0.1 dB, independent of the loudness in the image."""
    _, again = chord()
    assert np.abs(again).max() == pytest.approx(10 ** (-0.1 / 20))
    grey = np.full((64, 24, 3), 250, np.uint8)
    assert np.abs(synthesise(grey, seed=0)).max() == pytest.approx(10 ** (-0.1 / 20))


def test_white_is_silence_and_black_is_not() -> None:
    white = np.full((32, 24, 3), 255, np.uint8)
    assert not synthesise(white, seed=0).any()
    black = synthesise(np.zeros_like(white), seed=0)
    assert np.isfinite(black).all()
    assert black.std() > 0.05


def test_image_narrower_than_a_window_is_refused() -> None:
    image = np.zeros((16, MIN_WIDTH, 3), np.uint8)
    assert len(synthesise(image, seed=0)) == 441 * (MIN_WIDTH - 1)
    with pytest.raises(ValueError, match="21 wide, narrower than 22"):
        synthesise(image[:, 1:], seed=0)


def test_parameters_are_the_published_ones() -> None:
    scale = SoundScale()
    assert (scale.hop, scale.window, scale.n_fft, scale.bins) == (441, 4410, 17640, 8821)
