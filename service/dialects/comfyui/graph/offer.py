"""The choices of a graph: the models and their networks, and the client's files."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from protocol.request.model_card import ModelCard, canonical_name
from protocol.request.sizes import Size

FILE = re.compile(r"\.(safetensors|ckpt|pt|pth|bin)$", re.IGNORECASE)
TINY_VAE = "taesd"  # ComfyUI's name of the tiny first stage

# ComfyUI's name of a sampler and a schedule -> ours, for the same arithmetic. Those that end in gpu
# differ by where their noise is made.
SAMPLERS: Mapping[str, str] = {
    "euler": "euler",
    "euler_ancestral": "euler_ancestral",
    "heun": "heun",
    "dpm_2": "dpm2",
    "dpm_2_ancestral": "dpm2_ancestral",
    "lms": "lms",
    "dpmpp_2s_ancestral": "dpmpp_2s_ancestral",
    "dpmpp_sde": "dpmpp_sde",
    "dpmpp_sde_gpu": "dpmpp_sde",
    "dpmpp_2m": "dpmpp_2m",
    "dpmpp_2m_sde": "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpmpp_3m_sde": "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu": "dpmpp_3m_sde",
    "ddpm": "ddpm",
    "lcm": "lcm",
    "deis": "deis",
    "ddim": "ddim",
    "uni_pc_bh2": "unipc",
}
SCHEDULERS: Mapping[str, str] = {
    "simple": "simple",
    "sgm_uniform": "sgm_uniform",
    "karras": "karras",
    "exponential": "exponential",
    "ddim_uniform": "ddim",
    "beta": "beta",
    "normal": "normal",
}


@dataclass(frozen=True)
class Offer:
    """The models by name, and the client's files by folder and name, with their sizes."""

    cards: Mapping[str, ModelCard]
    files: Mapping[tuple[str, str], Size] = field(default_factory=dict)

    @property
    def checkpoints(self) -> list[str]:
        return list(self.cards)

    @property
    def vaes(self) -> list[str]:
        tiny = any(len(card.decoders) > 1 for card in self.cards.values())
        return [*self.cards, *([TINY_VAE] if tiny else [])]

    @property
    def loras(self) -> list[str]:
        return _all(card.loras for card in self.cards.values())

    @property
    def controlnets(self) -> list[str]:
        return _all(card.controlnets for card in self.cards.values())

    @property
    def upscalers(self) -> list[str]:
        return _all([one.name for one in card.upscalers] for card in self.cards.values())

    @property
    def embeddings(self) -> list[str]:
        return _all(card.embeddings for card in self.cards.values())

    @property
    def samplers(self) -> list[str]:
        offered = set(_all(card.samplers for card in self.cards.values()))
        return [name for name, ours in SAMPLERS.items() if ours in offered]

    @property
    def schedulers(self) -> list[str]:
        offered = set(_all(card.schedules for card in self.cards.values()))
        return [name for name, ours in SCHEDULERS.items() if ours in offered]

    @property
    def images(self) -> list[str]:
        return [name for folder, name in self.files if folder == "input"]

    def names(self, listing: str) -> list[str]:
        """Return the names of one of the lists of node classes."""
        lists = {
            "checkpoints": self.checkpoints,
            "loras": self.loras,
            "vae": self.vaes,
            "controlnet": self.controlnets,
            "upscale_models": self.upscalers,
            "samplers": self.samplers,
            "schedulers": self.schedulers,
            "images": self.images,
            "parts": [],
        }
        return lists[listing]

    def named(self, listing: str, name: str) -> str | None:
        """Return a name of a list by one of its spellings: with the ending of a file, or an alias.

        None if there is none.
        """
        names = self.names(listing)
        for spelling in (name, FILE.sub("", name)):
            if spelling in names:
                return spelling
            if listing == "checkpoints" and (alias := canonical_name(spelling, self.cards)):
                return alias
        return None


def _all(lists: Iterable[Iterable[str]]) -> list[str]:
    """Return all names once, in their order."""
    return list(dict.fromkeys(name for names in lists for name in names))
