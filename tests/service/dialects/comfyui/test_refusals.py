"""Graphs that are refused: in ComfyUI's form, with the node, its class and the reason."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.comfyui.graph.classes import NODES
from service.dialects.comfyui.graph.node_class import Listing
from service.dialects.comfyui.graph.offer import Offer
from service.dialects.comfyui.graph.parsing import MAX_NODES
from service.dialects.comfyui.graph.unsupported import UNSUPPORTED
from tests.service.dialects.comfyui.graphs import (
    OFFER,
    TEMPLATES,
    Graph,
    fault,
    for_inpainting,
    hires,
    image_to_image,
    inpainting,
    node,
    outpainting,
    pixel_hires,
    refined,
    refusal,
    text_to_image,
    upscaling,
    with_controlnet,
    with_lora,
)


@pytest.mark.parametrize("class_type", [*UNSUPPORTED, "UltimateSDUpscale"])
def test_other_nodes(class_type: str) -> None:
    graph = text_to_image()
    graph["5"] = node(class_type)
    error = refusal(graph)["error"]
    assert error["type"] == "invalid_prompt"
    assert f"node {class_type} does not exist" in error["message"]
    assert UNSUPPORTED.get(class_type, "") in error["message"]
    assert error["details"] == "Node ID '#5'"
    assert error["extra_info"] == {"node_id": "5", "class_type": class_type}


def test_no_node_is_both() -> None:
    assert not NODES.keys() & UNSUPPORTED.keys()


@pytest.mark.parametrize("prompt", [None, [], "x", 5, {}])
def test_no_graph(prompt: Any) -> None:
    assert refusal(prompt)["error"]["type"] == "no_prompt"


@pytest.mark.parametrize(
    "one", [None, [], "x", {}, {"class_type": 5}, {"class_type": "KSampler", "inputs": []}]
)
def test_nodes_that_are_none(one: Any) -> None:
    answer = refusal({**text_to_image(), "3": one})
    assert answer["error"]["type"] == "invalid_prompt"
    assert "'#3'" in answer["error"]["details"]


def test_no_outputs() -> None:
    graph = text_to_image()
    del graph["9"]
    assert refusal(graph)["error"]["type"] == "prompt_no_outputs"


def changed(graph: Graph, node_id: str, **inputs: Any) -> Graph:
    graph[node_id]["inputs"] |= inputs
    return graph


def without(graph: Graph, node_id: str, name: str) -> Graph:
    del graph[node_id]["inputs"][name]
    return graph


@pytest.mark.parametrize(
    ("graph", "kind"),
    [
        (without(text_to_image(), "3", "seed"), "required_input_missing"),
        (without(text_to_image(), "3", "model"), "required_input_missing"),
        (text_to_image(seed=-1), "value_smaller_than_min"),
        (text_to_image(seed=2**64), "value_bigger_than_max"),
        (text_to_image(steps=0), "value_smaller_than_min"),
        (text_to_image(cfg=101), "value_bigger_than_max"),
        (text_to_image(steps="many"), "invalid_input_type"),
        (text_to_image(steps=None), "invalid_input_type"),
        (text_to_image(cfg={}), "invalid_input_type"),
        (text_to_image(cfg="nan"), "invalid_input_type"),
        (text_to_image(steps="9" * 50), "invalid_input_type"),
        (text_to_image(sampler_name="dpm_adaptive"), "value_not_in_list"),
        (text_to_image(scheduler="kl_optimal"), "value_not_in_list"),
        (text_to_image(model="4"), "bad_linked_input"),
        (text_to_image(model=["4", 3]), "bad_linked_input"),
        (text_to_image(model=["4", -1]), "bad_linked_input"),
        (text_to_image(model=["none", 0]), "bad_linked_input"),
        (text_to_image(model=["4", 1]), "return_type_mismatch"),
        (changed(text_to_image(), "4", ckpt_name="other"), "value_not_in_list"),
        (changed(image_to_image(), "10", image="none.png"), "custom_validation_failed"),
        (changed(image_to_image(), "10", image="../../etc/passwd"), "custom_validation_failed"),
        (changed(image_to_image(), "10", image="/etc/passwd"), "custom_validation_failed"),
        (changed(text_to_image(), "9", filename_prefix="../x"), "custom_validation_failed"),
        (changed(text_to_image(), "9", filename_prefix="/x"), "custom_validation_failed"),
        (changed(text_to_image(), "9", filename_prefix="x" * 101), "custom_validation_failed"),
    ],
)
def test_wrong_inputs(graph: Graph, kind: str) -> None:
    class_type, found, details = fault(graph)
    assert found == kind
    assert class_type in {one["class_type"] for one in graph.values()}
    assert details


def joined(graph: Graph, class_type: str, text: str = "other") -> Graph:
    graph["100"] = node("CLIPTextEncode", text=text, clip=["4", 1])
    names = ("conditioning_1", "conditioning_2")
    if class_type == "ConditioningConcat":
        names = ("conditioning_to", "conditioning_from")
    links = dict(zip(names, (["6", 0], ["100", 0]), strict=True))
    graph["101"] = node(class_type, **links)
    return changed(graph, "3", positive=["101", 0])


def other_model(graph: Graph) -> Graph:
    graph["140"] = node("CheckpointLoaderSimple", ckpt_name="xl")
    return changed(graph, "3", model=["140", 0])


def scaled_result(graph: Graph) -> Graph:
    graph["141"] = node("ImageScaleBy", image=["8", 0], upscale_method="lanczos", scale_by=2)
    return changed(graph, "9", images=["141", 0])


def other_output(graph: Graph) -> Graph:
    graph["142"] = node("LoadImage", image="cat.png")
    graph["143"] = node("PreviewImage", images=["142", 0])
    return graph


def upscaled_control(graph: Graph) -> Graph:
    graph["147"] = node("UpscaleModelLoader", model_name="4x-net")
    links = {"upscale_model": ["147", 0], "image": ["51", 0]}
    graph["148"] = node("ImageUpscaleWithModel", **links)
    return changed(graph, "52", image=["148", 0])


def clip_layer(graph: Graph, model: str, layer: int) -> Graph:
    graph["144"] = node("CLIPSetLastLayer", clip=["4", 1], stop_at_clip_layer=layer)
    changed(graph, "4", ckpt_name=model)
    changed(graph, "7", clip=["144", 0])
    return changed(graph, "6", clip=["144", 0])


def masked(graph: Graph, class_type: str, **inputs: Any) -> Graph:
    graph["145"] = node(class_type, mask=["10", 1], **inputs)
    return changed(graph, "11", mask=["145", 0])


@pytest.mark.parametrize(
    ("graph", "class_type", "reason"),
    [
        (joined(text_to_image(), "ConditioningCombine"), "ConditioningCombine", "averaged"),
        (joined(text_to_image(), "ConditioningConcat", " "), "ConditioningConcat", "empty"),
        (changed(with_lora(), "7", clip=["4", 1]), "KSampler", "LoRAs of positive"),
        (changed(with_controlnet(), "3", negative=["7", 0]), "KSampler", "ControlNets"),
        (upscaled_control(with_controlnet()), "ControlNetApplyAdvanced", "from LoadImage"),
        (other_model(text_to_image()), "KSampler", "the model's checkpoint"),
        (clip_layer(text_to_image(), "xl", -1), "CLIPSetLastLayer", "-2"),
        (text_to_image(denoise=0), "KSampler", "nothing to do"),
        (text_to_image(denoise=0.5), "KSampler", "without an image"),
        (image_to_image(steps=60, denoise=0.01), "KSampler", "denoise"),
        (for_inpainting(denoise=0.5), "KSampler", "SetLatentNoiseMask"),
        (hires(seed=6), "KSampler", "that of node 3"),
        (hires(cfg=7), "KSampler", "that of node 3"),
        (hires(sampler_name="ddim"), "KSampler", "that of node 3"),
        (changed(hires(), "20", upscale_method="bislerp"), "LatentUpscaleBy", "upscale_method"),
        (changed(pixel_hires(), "23", upscale_method="area"), "ImageScaleBy", "upscale_method"),
        (changed(pixel_hires(), "20", pixels=["22", 0]), "KSampler", "scaled up"),
        (refined(steps=20), "KSamplerAdvanced", "where 3 stops"),
        (refined(scheduler="karras"), "KSamplerAdvanced", "shares it"),
        (refined(add_noise="enable"), "KSamplerAdvanced", ""),
        (changed(refined(), "31", text="other"), "KSamplerAdvanced", "shares it"),
        (changed(refined(), "8", samples=["3", 0]), "KSamplerAdvanced", "refiner"),
        (scaled_result(text_to_image()), "ImageScaleBy", "in a prompt of its own"),
        (other_output(text_to_image()), "PreviewImage", "one result"),
        (changed(upscaling(), "4", images=["1", 0]), "SaveImage", "nothing is to do"),
        (changed(outpainting(), "5", mask=["10", 1]), "ImagePadForOutpaint", "its own mask"),
        (masked(inpainting(), "GrowMask", expand=3, tapered_corners=True), "GrowMask", "squares"),
        (masked(inpainting(), "GrowMask", expand=65, tapered_corners=False), "GrowMask", "64"),
        (changed(text_to_image(), "6", text="embedding:none"), "CLIPTextEncode", "no embedding"),
        (changed(text_to_image(), "6", text="x" * 20_001), "CLIPTextEncode", "20000"),
        (changed(inpainting(), "8", samples=["11", 0]), "VAEDecode", "nothing to do"),
    ],
)
def test_what_is_not_possible(graph: Graph, class_type: str, reason: str) -> None:
    answer = refusal(graph)
    [found] = answer["node_errors"].values()
    [error] = found["errors"]
    assert found["class_type"] == class_type, error
    assert error["type"] == "custom_validation_failed"
    assert reason in error["details"]
    assert error["details"] in answer["error"]["details"]
    assert class_type in answer["error"]["message"]


@pytest.mark.parametrize("class_type", ["UNETLoader", "CLIPLoader", "DualCLIPLoader"])
def test_parts_of_models(class_type: str) -> None:
    """The classes are there because front ends ask for them; their lists are empty."""
    graph = text_to_image()
    inputs = dict.fromkeys(NODES[class_type].inputs, "x.safetensors")
    graph["146"] = node(class_type, **inputs)
    name = "model" if class_type == "UNETLoader" else "clip"
    changed(graph, "3" if name == "model" else "6", **{name: ["146", 0]})
    answer = refusal(graph)
    errors = answer["node_errors"]["146"]["errors"]
    assert {error["type"] for error in errors} == {"value_not_in_list"}


def test_all_wrong_nodes_are_named() -> None:
    answer = refusal(changed(text_to_image(steps=0), "4", ckpt_name="other"))
    assert answer["node_errors"].keys() == {"3", "4"}
    assert answer["node_errors"]["3"]["dependent_outputs"] == ["9"]


def test_cycles() -> None:
    graph = changed(image_to_image(), "5", pixels=["8", 0])
    answer = refusal(graph)
    assert answer["node_errors"].keys() == {"3", "5", "8", "9"}
    found = {error["type"] for one in answer["node_errors"].values() for error in one["errors"]}
    assert found == {"dependency_cycle"}
    graph = text_to_image()
    graph["3"]["inputs"]["latent_image"] = ["3", 0]
    assert refusal(graph)["node_errors"]["3"]["errors"][0]["type"] == "dependency_cycle"


def chain(length: int) -> Graph:
    """Return a graph with a chain of nodes, each of which doubles what it gets."""
    graph = text_to_image()
    last = "6"
    for i in range(length):
        graph[f"c{i}"] = node(
            "ConditioningConcat", conditioning_to=[last, 0], conditioning_from=[last, 0]
        )
        last = f"c{i}"
    return changed(graph, "3", positive=[last, 0])


def test_deep_links() -> None:
    """A chain as long as a graph may be is resolved without recursion; its text is bounded."""
    graph = chain(MAX_NODES - 7)
    assert len(graph) == MAX_NODES
    assert len(refusal({**graph, "x": node("KSampler")})["error"]["details"]) < 100
    changed(graph, "6", text="x" * 100)
    class_type, kind, details = fault(graph)
    assert (class_type, kind) == ("ConditioningConcat", "custom_validation_failed")
    assert "20000" in details


def test_many_nodes() -> None:
    graph = {str(i): node("CheckpointLoaderSimple", ckpt_name="tiny") for i in range(1000)}
    answer = refusal(graph)
    assert answer["error"]["type"] == "invalid_prompt"
    assert "1000 nodes" in answer["error"]["details"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(template=st.sampled_from(sorted(TEMPLATES)), data=st.data())
def test_hostile_values(template: str, data: st.DataObject) -> None:
    """Any value of any input is resolved, or refused with a node."""
    graph = TEMPLATES[template]()
    node_id = data.draw(st.sampled_from(sorted(graph)))
    inputs = graph[node_id]["inputs"]
    name = data.draw(st.sampled_from(sorted(inputs)))
    link = st.tuples(st.sampled_from(sorted(graph)), st.integers(-1, 4)).map(list)
    inputs[name] = data.draw(JSON | link)
    try:
        answer = refusal(graph)
    except AssertionError as error:
        assert "not refused" in str(error)
    else:
        assert answer["node_errors"]


def test_without_models() -> None:
    offer = Offer({}, OFFER.files)
    answer = refusal(text_to_image(), offer)
    assert answer["node_errors"].keys() == {"3", "4"}
    assert all(offer.names(listing) == [] for listing in Listing if listing is not Listing.IMAGES)


def test_messages_are_short_and_quote_nothing_unprintable() -> None:
    graph = changed(text_to_image(), "4", ckpt_name="\x00<script>" + "x" * 10_000)
    answer = refusal(graph)
    assert len(str(answer)) < 3000
    assert not re.search(r"\x00", str(answer))
