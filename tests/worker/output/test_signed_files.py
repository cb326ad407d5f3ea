"""Image files with content credentials, verified by the reader of c2pa-python."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from protocol.request.object_keys import OutputFormat, new_job_id
from protocol.storage.object_store import ObjectStore
from service.images.image_sanitizer import jpeg_segments, png_chunks
from service.recipes.file_texts import webp_chunks
from tests.support.signing import credentials, manifest, validation
from tests.worker.consumer.harness import request
from worker.output.image_files import encode
from worker.output.output_processor import OutputProcessor, Sign
from worker.output.paste import Pasted

PIXELS = np.stack(np.meshgrid(*[np.arange(0, 256, 16, dtype=np.uint8)] * 3)[:3], -1)[0]
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE = GENERATED.replace("trained", "compositeWithTrained")


@pytest.fixture(scope="module")
def sign(tmp_path_factory: pytest.TempPathFactory) -> Sign:
    return credentials(tmp_path_factory.mktemp("certificate")).sign_image


@pytest.fixture(scope="module")
def files(sign: Sign) -> dict[OutputFormat, bytes]:
    return {kind: signed(sign, kind) for kind in OutputFormat}


def signed(sign: Sign, output_format: OutputFormat) -> bytes:
    one = request(output_format=output_format)
    return sign(encode(PIXELS, one, seed=1), one)


@pytest.mark.parametrize("kind", list(OutputFormat))
def test_signed_file_is_valid_and_has_the_same_image_and_metadata(
    sign: Sign, kind: OutputFormat
) -> None:
    one = request(output_format=kind)
    plain = encode(PIXELS, one, seed=1)
    file = sign(plain, one)
    assert validation(file, kind.content_type) == "Valid"
    assert validation(plain, kind.content_type) == "unreadable"
    with Image.open(io.BytesIO(plain)) as before, Image.open(io.BytesIO(file)) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
        for name in ("parameters", "darkroom", "XML:com.adobe.xmp", "xmp", "exif"):
            assert after.info.get(name) == before.info.get(name)


def test_claim_names_program_action_and_certificate(files: dict[OutputFormat, bytes]) -> None:
    found = manifest(files[OutputFormat.PNG], "image/png")
    (generator,) = found["claim_generator_info"]
    assert generator["name"] == "Darkroom"
    assert generator["darkroom.certificate"] == "development"
    assert "development certificate" in found["signature_info"]["issuer"]
    assert actions(found) == [{"action": "c2pa.created", "digitalSourceType": GENERATED}]
    assert "ingredients" not in found
    assert "time" not in found["signature_info"]  # of a timestamp authority


def test_claim_of_an_edited_image_has_the_input_as_ingredient(sign: Sign) -> None:
    one = request(task="img2img", image_key=f"inputs/{'0' * 64}", strength=0.5)
    file = sign(encode(PIXELS, one, seed=1), one)
    found = manifest(file, "image/png")
    assert validation(file, "image/png") == "Valid"
    (ingredient,) = found["ingredients"]
    assert (ingredient["title"], ingredient["relationship"]) == ("input image", "parentOf")
    opened, edited = actions(found)
    assert opened["action"] == "c2pa.opened"
    assert opened["parameters"]["ingredients"][0]["url"].endswith("c2pa.ingredient.v3")
    assert edited == {"action": "c2pa.edited", "digitalSourceType": COMPOSITE}


def actions(found: dict[str, list[dict[str, dict[str, list[dict[str, object]]]]]]) -> list:  # type: ignore[type-arg]
    (assertion,) = found["assertions"]
    return assertion["data"]["actions"]


def test_manifest_has_nothing_of_the_prompt(sign: Sign) -> None:
    one = request(prompt="canary", model="coalmine", metadata=False)
    file = sign(encode(PIXELS, one, seed=1), one)
    assert validation(file, "image/png") == "Valid"
    assert b"canary" not in file
    assert b"coalmine" not in file


@pytest.mark.parametrize("kind", list(OutputFormat))
@given(data=st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_no_byte_can_change(
    files: dict[OutputFormat, bytes], kind: OutputFormat, data: st.DataObject
) -> None:
    file = files[kind]
    manifest_at = manifest_place(kind, file)
    place = data.draw(st.integers(0, len(file) - len(manifest_at) - 1))
    changed = bytearray(file)
    changed[place if place < manifest_at.start else place + len(manifest_at)] ^= data.draw(
        st.integers(1, 255)
    )
    assert validation(bytes(changed), kind.content_type) in ("Invalid", "unreadable")


@pytest.mark.parametrize("kind", list(OutputFormat))
def test_cut_and_extended_files_are_not_valid(
    files: dict[OutputFormat, bytes], kind: OutputFormat
) -> None:
    file = files[kind]
    for changed in (file[:-1], file[: len(file) // 2], file + b"\0"):
        assert validation(changed, kind.content_type) in ("Invalid", "unreadable")


def manifest_place(kind: OutputFormat, file: bytes) -> range:
    """Return the place of the manifest; of an AVIF with its brands, which C2PA does not hash."""
    parts: Iterator[tuple[int, int]]
    match kind:
        case OutputFormat.PNG:
            parts = ((one.start, one.end) for one in png_chunks(file) if one.kind == b"caBX")
        case OutputFormat.JPEG:
            parts = ((one.start, one.end) for one in jpeg_segments(file) if one.kind == b"\xeb")
        case OutputFormat.WEBP:
            parts = ((one.start, one.end) for one in webp_chunks(file) if one.kind == b"C2PA")
        case OutputFormat.AVIF:
            start = file.index(b"uuid" + bytes.fromhex("d8fec3d61b0e483c92975828877ec481")) - 4
            end = start + int.from_bytes(file[start : start + 4])
            assert file.index(b"ftyp") == 4
            assert int.from_bytes(file[:4]) == start
            parts = iter([(8, end)])
    (place,) = parts
    return range(*place)


def test_several_threads_sign_at_once(sign: Sign) -> None:
    kinds = list(OutputFormat) * 6
    with ThreadPoolExecutor(4) as threads:
        for kind, file in zip(
            kinds, threads.map(lambda one: signed(sign, one), kinds), strict=True
        ):
            assert validation(file, kind.content_type) == "Valid"


def test_stored_file_is_the_signed_one(sign: Sign) -> None:
    store = ObjectStore.open("memory:///")
    output = OutputProcessor(store, threads=1, patience_s=0, sign=sign)
    one = request(output_format="jpeg")
    image = output.submit(output.write_image, new_job_id(), 0, Pasted(PIXELS), one, 9).result()
    output.close()
    file = store.get(image.key)
    assert image.bytes == len(file)
    assert validation(file, "image/jpeg") == "Valid"
