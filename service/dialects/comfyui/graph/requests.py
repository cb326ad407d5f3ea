"""The outputs of a graph as one of our requests."""

from collections.abc import Sequence

from protocol.request.tasks import Task
from protocol.request.upscaling import scaled
from service.dialects.comfyui.graph.draft import Draft, FileUse, refuse, scale_of, upscaler_scale
from service.dialects.comfyui.graph.errors import NodeFault, not_possible, refused
from service.dialects.comfyui.graph.node_class import NodeRefused
from service.dialects.comfyui.graph.offer import Offer
from service.dialects.comfyui.graph.parsing import Graph
from service.dialects.comfyui.graph.resolution import Output, Resolution
from service.dialects.comfyui.graph.sampled_request import sampled_draft
from service.dialects.comfyui.graph.values import Decoded, Image, ImageRef, Origin

FILTERS = {"lanczos": "lanczos", "nearest-exact": "nearest"}


def request_of(graph: Graph, resolution: Resolution, offer: Offer) -> Draft:
    """Return the request that makes the images of all outputs. Raises `GraphRefused`."""
    outputs = resolution.outputs
    ends = tuple(one.node_id for one in outputs)
    try:
        return _draft(outputs, offer)
    except NodeRefused as error:
        node_id = error.node_id or ends[0]
        fault = NodeFault(node_id, graph[node_id].class_type, (error.fault,), ends)
        raise refused(fault) from error


def _draft(outputs: Sequence[Output], offer: Offer) -> Draft:
    first, *others = outputs
    for other in others:
        if other.image != first.image:
            reason = f"those of node {first.node_id}: one prompt has one result here"
            raise NodeRefused(not_possible("images", reason), other.node_id)
    match first.image:
        case Image(source=ImageRef() as ref) as image:
            return _upscaled(first, image, ref, offer)
        case Image(source=Decoded() as decoded):
            _check_finished(first.image)
            return sampled_draft(decoded, offer)
    raise AssertionError("an image comes from a file or a sampler")


def _check_finished(image: Image) -> None:
    """Refuse to change a generated image, which would be a second job."""
    reason = "images of a file only: upscale what was generated in a prompt of its own"
    if image.resize is not None:
        raise refuse(image.resize.origin, reason)
    if image.upscaler is not None:
        raise refuse(image.upscaler.origin, reason)


def _upscaled(output: Output, image: Image, ref: ImageRef, offer: Offer) -> Draft:
    """Return the request to upscale a file."""
    if image.padding is not None:
        raise refuse(image.padding.origin, "followed by VAEEncodeForInpaint and a sampler")
    draft = Draft(offer, output.node_id, Task.UPSCALE)
    draft.put_file("image", FileUse(ref))
    size = draft.size_of(ref)
    if image.upscaler is not None:
        draft.node_id = image.upscaler.origin.node_id
        draft.put("upscaler", image.upscaler.name, image.upscaler.origin)
    elif image.resize is not None:
        draft.node_id = image.resize.origin.node_id
        _check_filter(image)
        draft.put("upscaler", FILTERS[image.resize.method], image.resize.origin)
    else:
        raise refuse(Origin(output.node_id, "images"), "changed by another node: nothing is to do")
    if image.resize is not None:
        draft.put("scale", _scale(image, size, offer), image.resize.origin)
    return draft


def _check_filter(image: Image) -> None:
    assert image.resize
    if image.resize.method not in FILTERS:
        bound = f"upscale_method must be one of {', '.join(FILTERS)}, or an upscale model"
        raise refuse(image.resize.origin, bound)


def _scale(image: Image, size: tuple[int, int], offer: Offer) -> float:
    """Return the scale of the result: of its size, or of the network times the factor."""
    assert image.resize
    scale = scale_of(image.resize, size, tolerance=2)
    if image.resize.factor is not None and image.upscaler is not None:
        scale *= upscaler_scale(offer, image.upscaler.name)
    if image.resize.size not in (None, scaled(size, scale)):
        bound = f"in the aspect of the image, {size[0]}x{size[1]}"
        raise refuse(image.resize.origin, bound)
    return scale
