"""The signer of image files, if the settings name a certificate."""

from __future__ import annotations

from importlib.util import find_spec

from protocol.startup import invalid_setting
from worker.output.output_processor import Sign
from worker.settings import WorkerSettings

EXTRA = "darkroom[provenance]"


def open_signer(settings: WorkerSettings) -> Sign | None:
    """Return what signs files with content credentials, None without a certificate.

    Raises InvalidSettings if the files of the settings cannot be used, or the extra is missing.
    """
    path, variable = settings.worker_c2pa_certificate, settings.variable("worker_c2pa_certificate")
    if path is None:
        return None
    if find_spec("c2pa") is None:
        bound = f"empty, as c2pa-python is not installed: install {EXTRA}"
        raise invalid_setting(variable, path, bound)
    from worker.output.content_credentials import open_credentials
    from worker.output.signing_identity import read_identity

    return open_credentials(variable, path, read_identity(settings)).sign_image
