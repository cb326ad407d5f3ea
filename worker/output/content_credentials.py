"""Content credentials: a signed C2PA manifest in each image file.

The only module of the worker that uses `c2pa`. Signing needs no network: there is no timestamp
authority, and the library may not connect to any host.
"""

from __future__ import annotations

import io
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import c2pa
from PIL import Image

from protocol.recipes.provenance import CLAIM_GENERATOR, DigitalSource, digital_source
from protocol.recipes.request_infotext import program_version
from protocol.request.object_keys import OutputFormat
from protocol.request.request import GenerationRequest
from protocol.startup import invalid_setting
from worker.output.signing_identity import SigningIdentity

logger = logging.getLogger(__name__)

OFFLINE: dict[str, Any] = {
    "version": 1,
    "core": {"allowed_network_hosts": []},
    # Each start signs and verifies an image; to verify every one would double the time.
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
    "builder": {"thumbnail": {"enabled": False}},
}
ACCEPTED = ("Valid", "Trusted")
WARNED_BEFORE = timedelta(days=30)
_INPUT = "input"


class ContentCredentials:
    """Signs image files; may be used from several threads at once."""

    def __init__(self, identity: SigningIdentity) -> None:
        info = c2pa.C2paSignerInfo(identity.algorithm, identity.chain, identity.key, None)
        self._context = c2pa.Context.from_dict(OFFLINE, signer=c2pa.Signer.from_info(info))
        self._generator = _generator(identity)

    def sign(self, file: bytes, output_format: OutputFormat, source: DigitalSource) -> bytes:
        """Return the file with a manifest; nothing may be written into it afterwards."""
        kind = output_format.content_type
        signed = io.BytesIO()
        manifest = {"claim_generator_info": [self._generator], "format": kind, **_origin(source)}
        with c2pa.Builder(manifest, context=self._context) as builder:
            builder.sign(kind, io.BytesIO(file), signed)
        return signed.getvalue()

    def sign_image(self, file: bytes, request: GenerationRequest) -> bytes:
        """Return the file of an image of a request with a manifest."""
        return self.sign(file, request.output_format, digital_source(request))


def open_credentials(variable: str, path: object, identity: SigningIdentity) -> ContentCredentials:
    """Return the signer, which has signed an image and verified it.

    Raises InvalidSettings, about `variable`, if C2PA does not accept the certificate at `path`.
    """
    try:
        credentials = ContentCredentials(identity)
        faults = _faults(credentials.sign(_sample(), OutputFormat.PNG, DigitalSource.GENERATED))
    except c2pa.C2paError as error:
        faults = str(error)
    if faults:
        raise invalid_setting(variable, path, f"a certificate that C2PA accepts ({faults})")
    _log(identity)
    return credentials


def _generator(identity: SigningIdentity) -> dict[str, str]:
    version = program_version().removeprefix(CLAIM_GENERATOR).strip()
    found = {"name": CLAIM_GENERATOR} | ({"version": version} if version else {})
    return found | ({"darkroom.certificate": "development"} if identity.is_development else {})


def _origin(source: DigitalSource) -> dict[str, Any]:
    """Return the actions, and the client's image as an ingredient if it is part of the result."""
    if source is DigitalSource.GENERATED:
        return _actions({"action": "c2pa.created", "digitalSourceType": source})
    image = {"title": "input image", "format": OutputFormat.PNG.content_type}
    return {
        "ingredients": [image | {"relationship": "parentOf", "label": _INPUT}],
        **_actions(
            {"action": "c2pa.opened", "parameters": {"ingredientIds": [_INPUT]}},
            {"action": "c2pa.edited", "digitalSourceType": source},
        ),
    }


def _actions(*actions: dict[str, Any]) -> dict[str, Any]:
    return {"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": list(actions)}}]}


def _sample() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def _faults(signed: bytes) -> str:
    """Return the codes of what is invalid in a signed PNG; trust in its issuer is not asked for."""
    with (
        c2pa.Context.from_dict(OFFLINE) as context,
        c2pa.Reader(OutputFormat.PNG.content_type, io.BytesIO(signed), context=context) as reader,
    ):
        if reader.get_validation_state() in ACCEPTED:
            return ""
        results = reader.get_validation_results() or {}
    failures = results.get("activeManifest", {}).get("failure", [])
    return ", ".join(str(failure.get("code")) for failure in failures) or "not valid"


def _log(identity: SigningIdentity) -> None:
    ends = {"ends": identity.ends_at.isoformat()}
    if identity.is_development:
        logger.warning("images are signed with a development certificate", extra=ends)
    else:
        logger.info("images are signed with content credentials", extra=ends)
    if identity.ends_at - datetime.now(UTC) < WARNED_BEFORE:
        logger.warning("the certificate of content credentials ends soon", extra=ends)
