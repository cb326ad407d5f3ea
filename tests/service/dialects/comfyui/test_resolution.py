"""Graphs of ComfyUI as our requests. The fields are those of the native API's request bodies."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.request.tasks import Task
from tests.service.dialects.comfyui.graphs import (
    TEMPLATES,
    fault,
    for_inpainting,
    hires,
    image_to_image,
    inpainting,
    node,
    outpainting,
    pixel_hires,
    refined,
    resolved,
    shuffled,
    text_to_image,
    upscaling,
    with_controlnet,
    with_lora,
)

TEXT = {
    "model": "tiny",
    "prompt": "a red heart",
    "negative_prompt": "blue",
    "steps": 4,
    "sampler": "euler",
    "schedule": "normal",
    "guidance_scale": 8.0,
    "seed": 5,
    "n": 1,
}


def test_text_to_image() -> None:
    draft = resolved(text_to_image())
    assert draft.task is Task.TXT2IMG
    assert draft.fields == {**TEXT, "width": 64, "height": 64}
    assert draft.origins["guidance_scale"] == ("3", "cfg")
    assert draft.origins["width"] == ("5", "width")
    assert draft.node_id == "3"


@given(template=st.sampled_from(sorted(TEMPLATES)), seed=st.integers(0, 10_000))
def test_ids_and_order_do_not_matter(template: str, seed: int) -> None:
    graph = TEMPLATES[template]()
    one, other = resolved(graph), resolved(shuffled(graph, seed))
    assert one.task is other.task
    assert one.fields == other.fields
    assert one.files == other.files
    assert one.origins.keys() == other.origins.keys()


@given(template=st.sampled_from(sorted(TEMPLATES)))
def test_unused_nodes_and_inputs_do_not_matter(template: str) -> None:
    graph = TEMPLATES[template]()
    before = resolved(graph).fields
    graph["900"] = node("CLIPTextEncode", text="unused")
    for one in graph.values():
        one["inputs"]["unknown"] = ["900", 7]
    assert resolved(graph).fields == before


def test_image_to_image() -> None:
    """ComfyUI does all `steps`: they are the last ones of a schedule that is longer."""
    draft = resolved(image_to_image(denoise=0.5))
    assert draft.task is Task.IMG2IMG
    assert draft.fields == {**TEXT, "steps": 8, "strength": 0.5}
    [(name, use)] = draft.files.items()
    assert (name, use.ref.name, use.channel) == ("image", "cat.png", None)


@given(steps=st.integers(1, 60), hundredths=st.integers(7, 100))
def test_the_strength_leaves_exactly_the_steps(steps: int, hundredths: int) -> None:
    draft = resolved(image_to_image(steps=steps, denoise=hundredths / 100))
    total, strength = draft.fields["steps"], draft.fields["strength"]
    assert isinstance(total, int)
    assert isinstance(strength, float)
    assert int(total * strength) == steps
    assert 0 < strength <= 1


def test_a_resized_image() -> None:
    graph = image_to_image()
    size = {"upscale_method": "bicubic", "width": 128, "height": 64}
    graph["60"] = node("ImageScale", image=["10", 0], crop="disabled", **size)
    graph["5"]["inputs"]["pixels"] = ["60", 0]
    sizes = {"width": 128, "height": 64}
    assert resolved(graph).fields.items() >= (sizes | {"resize_mode": "stretch"}).items()
    graph["60"]["inputs"]["crop"] = "center"
    assert resolved(graph).fields["resize_mode"] == "crop"
    graph["60"] = node("ImageScaleBy", image=["10", 0], upscale_method="area", scale_by=1.3)
    # 83.2 pixels are 83, of which latents hold 80.
    assert resolved(graph).fields.items() >= {"width": 80, "height": 80}.items()


def test_inpainting() -> None:
    draft = resolved(inpainting())
    assert draft.task is Task.INPAINT
    assert draft.fields == {**TEXT, "steps": 8, "strength": 0.5, "mask_mode": "soft"}
    assert draft.files["mask"].channel == "alpha"
    assert draft.files["mask"].ref.name == "cat.png"


def test_masks_of_other_files() -> None:
    graph = inpainting()
    graph["70"] = node("LoadImageMask", image="sub/wide.png", channel="red")
    graph["71"] = node("GrowMask", mask=["70", 0], expand=3, tapered_corners=False)
    graph["72"] = node("InvertMask", mask=["71", 0])
    graph["11"]["inputs"]["mask"] = ["72", 0]
    draft = resolved(graph)
    assert draft.files["mask"].channel == "red"
    assert draft.fields.items() >= {"mask_invert": True, "mask_grow": -3}.items()
    graph["70"] = node("LoadImage", image="cat.png")
    graph["71"] = node("ImageToMask", image=["70", 0], channel="green")
    draft = resolved(graph)
    assert draft.files["mask"].channel == "green"
    assert "mask_grow" not in draft.fields


def test_latents_for_inpainting() -> None:
    """The mask is rounded, and grown by a square of six pixels."""
    draft = resolved(for_inpainting())
    assert draft.task is Task.INPAINT
    assert draft.fields == {**TEXT, "strength": 1.0, "mask_grow": 3}


def test_inpaint_model_conditioning() -> None:
    graph = inpainting(denoise=1.0)
    links = {"positive": ["6", 0], "negative": ["7", 0], "vae": ["4", 2]}
    graph["11"] = node("InpaintModelConditioning", **links, pixels=["10", 0], mask=["10", 1])
    graph["3"]["inputs"] |= {
        "positive": ["11", 0],
        "negative": ["11", 1],
        "latent_image": ["11", 2],
    }
    draft = resolved(graph)
    assert draft.task is Task.INPAINT
    assert draft.fields == {**TEXT, "strength": 1.0, "mask_mode": "soft"}


def test_outpainting() -> None:
    draft = resolved(outpainting())
    assert draft.task is Task.OUTPAINT
    assert draft.fields == {**TEXT, "strength": 1.0, "right": 64, "edge_blend": 8}
    assert draft.files.keys() == {"image"}


@pytest.mark.parametrize(
    ("method", "ours"),
    [
        ("nearest-exact", "latent-nearest-exact"),
        ("bilinear", "latent"),
        ("bicubic", "latent-bicubic"),
    ],
)
def test_a_second_pass_over_latents(method: str, ours: str) -> None:
    graph = hires()
    graph["20"]["inputs"]["upscale_method"] = method
    draft = resolved(graph)
    passes = {"hires_scale": 1.5, "hires_steps": 8, "hires_strength": 0.5, "hires_upscaler": ours}
    assert draft.fields == {**TEXT, "width": 64, "height": 64, **passes}
    assert draft.node_id == "21"


def test_a_second_pass_by_size() -> None:
    graph = hires()
    size = {"width": 128, "height": 128, "crop": "disabled"}
    graph["20"] = node("LatentUpscale", samples=["3", 0], upscale_method="bilinear", **size)
    assert resolved(graph).fields["hires_scale"] == 2.0
    graph["20"]["inputs"]["height"] = 64
    assert fault(graph)[:2] == ("LatentUpscale", "custom_validation_failed")


def test_a_second_pass_over_pixels() -> None:
    graph = pixel_hires()
    assert resolved(graph).fields.items() >= {"hires_scale": 2, "hires_upscaler": "lanczos"}.items()
    graph["24"] = node("UpscaleModelLoader", model_name="4x-net")
    graph["25"] = node("ImageUpscaleWithModel", upscale_model=["24", 0], image=["22", 0])
    graph["23"]["inputs"] |= {"image": ["25", 0], "scale_by": 0.5}
    assert resolved(graph).fields.items() >= {"hires_scale": 2, "hires_upscaler": "4x-net"}.items()
    graph["20"]["inputs"]["pixels"] = ["25", 0]
    assert resolved(graph).fields["hires_scale"] == 4


def test_a_refiner() -> None:
    draft = resolved(refined())
    assert draft.fields["model"] == "xl"
    assert draft.fields.items() >= {"refiner": "refiner", "refiner_start": 0.8, "steps": 10}.items()


def test_an_advanced_sampler() -> None:
    graph = image_to_image()
    inputs = {
        name: value
        for name, value in graph["3"]["inputs"].items()
        if name not in ("seed", "denoise")
    }
    steps = {"steps": 10, "start_at_step": 4, "end_at_step": 10_000}
    noise = {"add_noise": "enable", "noise_seed": 3, "return_with_leftover_noise": "disable"}
    graph["3"] = node("KSamplerAdvanced", **{**inputs, **steps, **noise})
    assert resolved(graph).fields.items() >= {"steps": 10, "strength": 0.6, "seed": 3}.items()
    graph["3"]["inputs"]["end_at_step"] = 8
    assert fault(graph)[0] == "KSamplerAdvanced"


def test_upscaling() -> None:
    draft = resolved(upscaling())
    assert draft.task is Task.UPSCALE
    assert draft.fields == {"upscaler": "4x-net"}
    graph = upscaling()
    size = {"upscale_method": "bicubic", "width": 128, "height": 128, "crop": "disabled"}
    graph["5"] = node("ImageScale", image=["3", 0], **size)
    graph["4"]["inputs"]["images"] = ["5", 0]
    assert resolved(graph).fields == {"upscaler": "4x-net", "scale": 2.0}
    graph["5"]["inputs"] |= {"image": ["1", 0], "upscale_method": "lanczos"}
    assert resolved(graph).fields == {"upscaler": "lanczos", "scale": 2.0}


def test_loras() -> None:
    assert resolved(with_lora(0.5)).fields["loras"] == [lora("detail", 0.5, 0.5)]
    assert "loras" not in resolved(with_lora(0)).fields
    graph = with_lora()
    graph["40"]["inputs"]["lora_name"] = "style.safetensors"
    assert resolved(graph).fields["loras"] == [lora("style", 0.5, 0.5)]


def lora(name: str, weight: float, text_encoder_weight: float) -> dict[str, object]:
    return {"name": name, "weight": weight, "text_encoder_weight": text_encoder_weight}


def test_loras_of_one_network() -> None:
    graph = with_lora()
    graph["40"]["inputs"] |= {"strength_model": -0.25, "strength_clip": 1.5}
    assert resolved(graph).fields["loras"] == [lora("detail", -0.25, 1.5)]
    graph["40"]["inputs"]["strength_model"] = 0
    assert resolved(graph).fields["loras"] == [lora("detail", 0, 1.5)]
    graph["41"] = node("LoraLoaderModelOnly", model=["40", 0], lora_name="style", strength_model=1)
    graph["3"]["inputs"]["model"] = ["41", 0]
    both = resolved(graph).fields["loras"]
    assert both == [lora("style", 1, 0), lora("detail", 0, 1.5)]
    for name in ("6", "7"):
        graph[name]["inputs"]["clip"] = ["4", 1]
    assert resolved(graph).fields["loras"] == [lora("style", 1, 0)]


def test_controlnets() -> None:
    draft = resolved(with_controlnet())
    control = {"model": "canny", "weight": 0.75, "start": 0.25, "end": 0.5, "resize_mode": "crop"}
    assert draft.fields["controls"] == [control]
    assert draft.files["controls.0.image"].ref.name == "sub/wide.png"


def test_a_controlnet_of_the_prompt_is_for_both() -> None:
    graph = with_controlnet()
    links = {"conditioning": ["6", 0], "control_net": ["50", 0], "image": ["51", 0]}
    graph["52"] = node("ControlNetApply", **links, strength=1.0)
    graph["3"]["inputs"] |= {"positive": ["52", 0], "negative": ["7", 0]}
    controls = resolved(graph).fields["controls"]
    assert isinstance(controls, list)
    assert [control["weight"] for control in controls] == [1.0]


@pytest.mark.parametrize(
    ("model", "layer", "skipped"),
    [("tiny", -1, None), ("tiny", -2, 1), ("xl", -2, None), ("xl", -4, 2)],
)
def test_clip_layers(model: str, layer: int, skipped: int | None) -> None:
    graph = text_to_image()
    graph["4"]["inputs"]["ckpt_name"] = model
    graph["80"] = node("CLIPSetLastLayer", clip=["4", 1], stop_at_clip_layer=layer)
    for name in ("6", "7"):
        graph[name]["inputs"]["clip"] = ["80", 0]
    assert resolved(graph).fields.get("clip_skip") == skipped


def test_batches() -> None:
    graph = text_to_image()
    graph["5"]["inputs"]["batch_size"] = 2
    graph["90"] = node("RepeatLatentBatch", samples=["5", 0], amount=3)
    graph["3"]["inputs"]["latent_image"] = ["90", 0]
    draft = resolved(graph)
    assert draft.fields["n"] == 6
    assert draft.origins["n"] == ("90", "amount")


def test_joined_prompts() -> None:
    graph = text_to_image()
    graph["100"] = node("CLIPTextEncode", text="on a table", clip=["4", 1])
    graph["101"] = node(
        "ConditioningConcat", conditioning_to=["6", 0], conditioning_from=["100", 0]
    )
    graph["102"] = node("ConditioningCombine", conditioning_1=["101", 0], conditioning_2=["101", 0])
    graph["3"]["inputs"]["positive"] = ["102", 0]
    assert resolved(graph).fields["prompt"] == "a red heart BREAK on a table"


def test_a_negative_prompt_without_meaning() -> None:
    graph = text_to_image(cfg=1)
    graph["110"] = node("ConditioningZeroOut", conditioning=["6", 0])
    graph["3"]["inputs"]["negative"] = ["110", 0]
    assert resolved(graph).fields["negative_prompt"] == ""
    graph["3"]["inputs"]["cfg"] = 2
    assert fault(graph)[:2] == ("KSampler", "custom_validation_failed")


def test_tiled_and_tiny_first_stages() -> None:
    graph = image_to_image()
    tiles = {"tile_size": 512, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    graph["5"] = node("VAEEncodeTiled", pixels=["10", 0], vae=["4", 2], **tiles)
    graph["120"] = node("VAELoader", vae_name="taesd")
    graph["8"] = node("VAEDecodeTiled", samples=["3", 0], vae=["120", 0], **tiles)
    assert resolved(graph).fields["decoder"] == "tiny"
    graph["120"]["inputs"]["vae_name"] = "tiny"
    assert "decoder" not in resolved(graph).fields
    graph["120"]["inputs"]["vae_name"] = "xl"
    assert fault(graph)[1] == "custom_validation_failed"


@pytest.mark.parametrize("class_type", ["PreviewImage", "SaveImageWebsocket"])
def test_several_outputs_of_the_same_images(class_type: str) -> None:
    graph = text_to_image()
    graph["130"] = node(class_type, images=["8", 0])
    assert resolved(graph).fields == resolved(text_to_image()).fields


@pytest.mark.parametrize("spelling", ["xl", "sdxl", "xl.safetensors", "sdxl.ckpt"])
def test_spellings_of_a_checkpoint(spelling: str) -> None:
    graph = text_to_image()
    graph["4"]["inputs"]["ckpt_name"] = spelling
    assert resolved(graph).fields["model"] == "xl"


@pytest.mark.parametrize("image", ["cat.png", "cat.png [input]", "mine.png [output]"])
def test_files(image: str) -> None:
    graph = image_to_image()
    graph["10"]["inputs"]["image"] = image
    assert resolved(graph).files["image"].ref.name == image.partition(" ")[0]


def test_seeds_of_64_bits() -> None:
    """Ours have 53 bits, which JSON keeps; larger ones are reduced."""
    assert resolved(text_to_image(seed=2**53 + 5)).fields["seed"] == 5
    assert resolved(text_to_image(seed=2**64 - 1)).fields["seed"] == 2**53 - 1


def test_numbers_as_text() -> None:
    """ComfyUI converts what it is given."""
    values: dict[str, Any] = {"seed": "5", "steps": 4.0, "cfg": "8.0", "denoise": "1"}
    assert resolved(text_to_image(**values)).fields == resolved(text_to_image()).fields
