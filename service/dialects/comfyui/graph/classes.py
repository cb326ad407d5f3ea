"""All node classes that are resolved here, by name."""

from service.dialects.comfyui.graph.conditioning import CONDITIONING
from service.dialects.comfyui.graph.images import IMAGES
from service.dialects.comfyui.graph.latents import LATENTS
from service.dialects.comfyui.graph.loaders import LOADERS
from service.dialects.comfyui.graph.masks import MASKS
from service.dialects.comfyui.graph.sampling import SAMPLERS

NODES = {one.name: one for one in (*LOADERS, *CONDITIONING, *SAMPLERS, *LATENTS, *IMAGES, *MASKS)}
