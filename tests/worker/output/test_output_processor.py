"""Reading inputs and writing images, also while the store does not answer."""

import io

import numpy as np
import pytest
import soundfile
from obstore.store import MemoryStore
from PIL import Image

from protocol.errors import StoreUnavailable, UnknownImage
from protocol.request.object_keys import AudioFormat, Extra, input_key, new_job_id
from protocol.storage.object_store import ObjectStore
from tests.worker.consumer.harness import request
from tests.worker.output.test_image_files import GRADIENT
from worker.output.output_processor import OutputProcessor
from worker.output.paste import Pasted


class AwayStore(ObjectStore):
    """A store that never answers; `tries` counts the calls."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.tries = 0

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self.tries += 1
        raise StoreUnavailable

    def get(self, key: str) -> bytes:
        self.tries += 1
        raise StoreUnavailable


def test_result_describes_the_stored_file() -> None:
    store = ObjectStore.open("memory:///")
    output = OutputProcessor(store, threads=1, patience_s=0)
    job_id = new_job_id()
    task = output.submit(
        output.write_image, job_id, 3, Pasted(GRADIENT), request(output_format="webp"), 9
    )
    image = task.result()
    output.close()
    assert image.key == f"results/{job_id}/3.webp"
    assert (image.height, image.width) == GRADIENT.shape[:2]
    assert (image.seed, image.format.value) == (9, "webp")
    assert len(store.get(image.key)) == image.bytes


def test_depth_is_stored_in_addition_to_the_image() -> None:
    store = ObjectStore.open("memory:///")
    output = OutputProcessor(store, threads=1, patience_s=0)
    high, low = GRADIENT[..., :1], GRADIENT[..., 1:2]
    pixels = np.concatenate([GRADIENT, high, low], axis=-1)
    job_id = new_job_id()
    image = output.submit(output.write_image, job_id, 2, Pasted(pixels), request(), 9).result()
    output.close()
    (depth,) = image.extras
    assert (depth.kind, depth.key) == (Extra.DEPTH, f"results/{job_id}/2.depth.png")
    assert depth.bytes == len(store.get(depth.key))
    opened = Image.open(io.BytesIO(store.get(depth.key)))
    expected = high[..., 0].astype(np.uint16) * 256 + low[..., 0]
    assert opened.mode == "I;16"
    assert np.array_equal(np.asarray(opened), expected)
    stored = Image.open(io.BytesIO(store.get(image.key)))
    assert np.array_equal(np.asarray(stored), GRADIENT)


@pytest.mark.parametrize("audio_format", list(AudioFormat))
def test_spectrogram_is_also_stored_as_sound(audio_format: AudioFormat) -> None:
    """Check that a bright image with one dark row is a tone, as read by libsndfile."""
    store = ObjectStore.open("memory:///")
    output = OutputProcessor(store, threads=1, patience_s=0)
    pixels = np.full((64, 40, 3), 255, np.uint8)
    pixels[32] = 0  # from the bottom, band 31 of 64
    job_id = new_job_id()
    one = request(audio_format=audio_format, output_format="jpeg", width=40, height=64)
    image = output.submit(output.write_image, job_id, 0, Pasted(pixels), one, 9).result()
    output.close()
    (sound,) = image.extras
    assert (sound.kind, sound.format.value) == (Extra.SOUND, audio_format.value)
    assert sound.key == f"results/{job_id}/0.sound.{audio_format.value}"
    samples, rate = soundfile.read(io.BytesIO(store.get(sound.key)))
    assert (rate, samples.ndim) == (44100, 1)
    assert len(samples) == pytest.approx(441 * 39, abs=0 if audio_format != "mp3" else 3000)
    mels = 2595 * np.log10(1 + 10000 / 700) * 32 / 65
    tone = 700 * (10 ** (mels / 2595) - 1)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() * rate / len(samples) == pytest.approx(tone, rel=0.05)


def test_stereo_sound_has_two_channels_and_its_image_an_exif_tag() -> None:
    store = ObjectStore.open("memory:///")
    output = OutputProcessor(store, threads=1, patience_s=0)
    pixels = np.random.default_rng(0).integers(0, 255, (32, 24, 3), dtype=np.uint8)
    one = request(audio_format="wav", audio_stereo=True, width=24, height=32)
    image = output.submit(output.write_image, new_job_id(), 0, Pasted(pixels), one, 9).result()
    output.close()
    samples, _ = soundfile.read(io.BytesIO(store.get(image.extras[0].key)))
    assert samples.shape == (441 * 23, 2)
    exif = Image.open(io.BytesIO(store.get(image.key))).getexif()
    published: dict[int, float] = {
        11000: 44100,
        11005: 1,
        11010: 10,
        11020: 100,
        11030: 400,
        11040: 32,
    }
    published |= {11050: 0, 11060: 10000, 11070: 0.25, 11080: 30e6}
    assert {tag: float(value) for tag, value in exif.items()} == published


def test_other_images_have_neither_sound_nor_its_tags() -> None:
    store = ObjectStore.open("memory:///")
    output = OutputProcessor(store, threads=1, patience_s=0)
    one = request(output_format="jpeg", metadata=False)
    image = output.submit(output.write_image, new_job_id(), 0, Pasted(GRADIENT), one, 9).result()
    output.close()
    assert image.extras == ()
    assert b"Exif" not in store.get(image.key)


def test_write_without_patience_is_tried_once() -> None:
    store = AwayStore()
    output = OutputProcessor(store, threads=1, patience_s=0)
    task = output.submit(output.write_image, new_job_id(), 0, Pasted(GRADIENT), request(), 1)
    assert isinstance(task.exception(), StoreUnavailable)
    assert store.tries == 1
    output.close()


def test_closing_ends_all_retries() -> None:
    store = AwayStore()
    output = OutputProcessor(store, threads=1, patience_s=1e6)
    task = output.submit(output.write_image, new_job_id(), 0, Pasted(GRADIENT), request(), 1)
    output.close()
    assert task.cancelled() or isinstance(task.exception(), StoreUnavailable)


def test_missing_input_is_not_waited_for() -> None:
    output = OutputProcessor(ObjectStore.open("memory:///"), threads=1, patience_s=1e6)
    with pytest.raises(UnknownImage):
        output.read_inputs([input_key(b"x")])
    output.close()
