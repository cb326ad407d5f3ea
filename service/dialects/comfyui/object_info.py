"""GET /object_info: the node classes, with what their inputs take."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from service.dialects.comfyui.client_files import files_of
from service.dialects.comfyui.description import READ, errors
from service.dialects.comfyui.graph.classes import NODES
from service.dialects.comfyui.graph.node_class import COMBO, Input, Listing, NodeClass
from service.dialects.comfyui.graph.offer import Offer
from service.routes.deps import ServicesDep, UserDep

router = APIRouter(responses=errors(*READ))


async def _offer(services: ServicesDep, user: UserDep) -> Offer:
    cards = await services.submitter.models.cards()
    return Offer(cards, {one: file.size for one, file in (await files_of(services, user)).items()})


OfferDep = Annotated[Offer, Depends(_offer)]


@router.get("/object_info")
async def comfy_object_info(offer: OfferDep) -> dict[str, Any]:
    """List the node classes that are resolved here, with the names to choose from.

    A graph with any other node is refused.
    """
    return {name: node_info(one, offer) for name, one in NODES.items()}


NodeName = Annotated[str, Path(examples=["KSampler"])]


@router.get("/object_info/{node_class}")
async def comfy_node_info(node_class: NodeName, offer: OfferDep) -> dict[str, Any]:
    """Get one node class; for an unknown one the answer has none."""
    found = NODES.get(node_class)
    return {} if found is None else {node_class: node_info(found, offer)}


def node_info(one: NodeClass, offer: Offer) -> dict[str, Any]:
    """Return a node class as ComfyUI describes it."""
    groups = {"required": one.required}
    if one.optional:
        groups["optional"] = one.optional
    return {
        "input": {
            group: {name: _input(found, offer) for name, found in inputs.items()}
            for group, inputs in groups.items()
        },
        "input_order": {group: list(inputs) for group, inputs in groups.items()},
        "output": list(one.outputs),
        "output_is_list": [False] * len(one.outputs),
        "output_name": list(one.output_names or one.outputs),
        "name": one.name,
        "display_name": one.display_name or one.name,
        "description": "",
        "python_module": "nodes",
        "category": one.category,
        "output_node": one.is_output,
    }


def _input(one: Input, offer: Offer) -> list[Any]:
    """Return an input; choices in the form that all clients read, their list as the type."""
    if not one.is_value:
        return [one.type]
    bounds = {"default": one.default, "min": one.min, "max": one.max, "step": one.step}
    if one.type == COMBO:
        options = one.options
        names = offer.names(options) if isinstance(options, Listing) else list(options)
        return [names, dict(one.details)]
    known = {name: value for name, value in bounds.items() if value is not None}
    return [one.type, {**known, **one.details}]
