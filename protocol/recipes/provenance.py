"""The provenance of an image: names that those who write and who read it share.

The digital source type is of the IPTC's vocabulary; XMP and C2PA use the same addresses.
"""

from enum import StrEnum

from protocol.request.request import GenerationRequest
from protocol.request.tasks import Task
from protocol.request.upscaling import FILTERS

VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
XMP_KEY = "XML:com.adobe.xmp"  # of the text in a PNG
CLAIM_GENERATOR = "Darkroom"
# Organisation in the certificates of `darkroom certificate`, which a claim and the logs repeat.
DEVELOPMENT = "Darkroom development certificate, not for production"


class DigitalSource(StrEnum):
    """The digital source types of our images."""

    GENERATED = f"{VOCABULARY}trainedAlgorithmicMedia"
    EDITED = f"{VOCABULARY}compositeWithTrainedAlgorithmicMedia"
    RESIZED = f"{VOCABULARY}algorithmicallyEnhanced"


def digital_source(request: GenerationRequest) -> DigitalSource:
    """Return the digital source type of the images of a request.

    Images that are no part of the result do not count: those of a ControlNet, and a semantic map.
    """
    if request.image_key is None or request.task is Task.SEMANTIC:
        return DigitalSource.GENERATED
    if request.upscaling is not None and set(request.upscalers) <= set(FILTERS):
        return DigitalSource.RESIZED
    return DigitalSource.EDITED
