"""The nodes of ComfyUI's standard templates that are refused, and the reasons."""

from collections.abc import Mapping

OTHER_KIND = "models here are whole checkpoints of latent diffusion"
NO_PARTS = "a sampler is one node here; KSampler and KSamplerAdvanced are resolved"
NO_REGIONS = "a prompt is for the whole image here"
NO_PIXELS = "pixels are not changed by the API; send the changed image"
NO_VISION = "there is no encoder of images for prompts"
NO_PATCH = "models are not patched"
NO_OTHER_MEDIA = "only images are generated"

UNSUPPORTED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("CLIPTextEncodeFlux", "CLIPTextEncodeSD3", "TripleCLIPLoader", "QuadrupleCLIPLoader"),
            *("EmptySD3LatentImage", "FluxGuidance", "ModelSamplingFlux", "ModelSamplingSD3"),
            *("ModelSamplingAuraFlow", "unCLIPCheckpointLoader", "CheckpointLoader"),
            *("ImageOnlyCheckpointLoader", "StableCascade_EmptyLatentImage"),
        ),
        OTHER_KIND,
    ),
    **dict.fromkeys(
        (
            *("SamplerCustom", "SamplerCustomAdvanced", "KSamplerSelect", "BasicScheduler"),
            *("BasicGuider", "CFGGuider", "RandomNoise", "DisableNoise", "SplitSigmas"),
            *(
                "KarrasScheduler",
                "ExponentialScheduler",
                "SDTurboScheduler",
                "AlignYourStepsScheduler",
            ),
        ),
        NO_PARTS,
    ),
    **dict.fromkeys(
        (
            *("ConditioningSetArea", "ConditioningSetAreaPercentage", "ConditioningSetMask"),
            *("ConditioningAverage", "ConditioningSetTimestepRange", "GLIGENLoader"),
            "GLIGENTextBoxApply",
        ),
        NO_REGIONS,
    ),
    **dict.fromkeys(
        (
            *("CLIPVisionLoader", "CLIPVisionEncode", "StyleModelLoader", "StyleModelApply"),
            "unCLIPConditioning",
        ),
        NO_VISION,
    ),
    **dict.fromkeys(
        (
            *("FreeU", "FreeU_V2", "HyperTile", "ModelMergeSimple", "ModelSamplingDiscrete"),
            *("RescaleCFG", "DifferentialDiffusion", "HypernetworkLoader", "CheckpointSave"),
            *("SetUnionControlNetType", "DiffControlNetLoader", "PatchModelAddDownscale"),
        ),
        NO_PATCH,
    ),
    **dict.fromkeys(
        (
            *("Canny", "ImageBlend", "ImageBlur", "ImageInvert", "ImageBatch", "ImageCrop"),
            *("ImageSharpen", "ImageQuantize", "ImageCompositeMasked", "ImageScaleToTotalPixels"),
            *("MaskToImage", "SolidMask", "MaskComposite", "FeatherMask", "CropMask"),
            *("EmptyImage", "PorterDuffImageComposite", "SplitImageWithAlpha", "ThresholdMask"),
        ),
        NO_PIXELS,
    ),
    **dict.fromkeys(
        (
            *("LatentComposite", "LatentBlend", "LatentCrop", "LatentFlip", "LatentRotate"),
            *("LatentFromBatch", "LatentBatch", "SaveLatent", "LoadLatent"),
        ),
        "latents are not changed by the API, except to scale up between two passes",
    ),
    **dict.fromkeys(
        (
            *("SaveAnimatedWEBP", "SaveAnimatedPNG", "SVD_img2vid_Conditioning", "SaveAudio"),
            *("VideoLinearCFGGuidance", "EmptyLatentAudio", "CreateVideo", "SaveVideo"),
        ),
        NO_OTHER_MEDIA,
    ),
}


def reason_of(class_type: str) -> str:
    """Return the reason why a node is refused, to stand at the end of a sentence."""
    reason = UNSUPPORTED.get(class_type)
    return f" here: {reason}" if reason else ""
