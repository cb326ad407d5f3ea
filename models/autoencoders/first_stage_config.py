"""Configurations of all first stages: `vae/config.json` and `vqvae/config.json`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from models.autoencoders.pixels import RGB
from models.checkpoints.config_fields import select
from models.checkpoints.errors import UnsupportedConfig


@dataclass(frozen=True)
class FirstStageConfig(ABC):
    """Configuration common to all first stages: channels of the image and of its latents.

    The latents times `scaling_factor` have about unit variance.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    scaling_factor: float = 1.0
    force_upcast: bool = False

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Return mean and deviation of each channel of the latents, where they are normalised.

        None for latents that are only scaled.
        """
        return None

    @property
    @abstractmethod
    def factor(self) -> int:
        """Return the pixels per latent along each side."""

    @property
    @abstractmethod
    def max_channels(self) -> int:
        """Return the channels of the decoder's widest feature map at the image's resolution."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the content of config.json."""


SD_SCALING_FACTOR = 0.18215
SDXL_SCALING_FACTOR = 0.13025

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu",),
    "norm_type": ("group",),
    "lookup_from_codebook": (False,),
}


_VQ_NEUTRAL = {**_NEUTRAL, "use_quant_conv": (True,), "use_post_quant_conv": (True,)}


def _sized(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without a size that is null, for which the default stands."""
    absent = {"sample_size"} if data.get("sample_size") is None else set()
    return {key: value for key, value in data.items() if key not in absent}


@dataclass(frozen=True)
class EncoderDecoderConfig(FirstStageConfig):
    """Encoder and decoder of the paper's autoencoders, level by level, the finest first.

    The `up_block_types` are in the decoder's order, the coarsest first.
    """

    sample_size: int = 512
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",) * 4
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",) * 4
    layers_per_block: int = 2
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        for name, known in (
            ("down_block_types", {"DownEncoderBlock2D", "AttnDownEncoderBlock2D"}),
            ("up_block_types", {"UpDecoderBlock2D", "AttnUpDecoderBlock2D"}),
        ):
            kinds = getattr(self, name)
            if len(kinds) != levels or not set(kinds) <= known:
                raise UnsupportedConfig(f"{name}={kinds}: {levels} of {sorted(known)} are needed")

    @property
    def factor(self) -> int:
        return 1 << (len(self.block_out_channels) - 1)

    @property
    def max_channels(self) -> int:
        # Features of the level below are upsampled before their channels are reduced.
        return max(self.block_out_channels[:2])


@dataclass(frozen=True)
class AutoencoderConfig(EncoderDecoderConfig):
    """The KL-regularised autoencoder (Rombach et al. 2022, section 3.1 and appendix G).

    The latents of some are normalised before they are scaled: by the mean and deviation of each
    channel (Playground v2.5), or by one mean, `shift_factor`.
    """

    scaling_factor: float = SD_SCALING_FACTOR
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.latents_mean is None) != (self.latents_std is None):
            raise UnsupportedConfig("latents_mean and latents_std: one is given without the other")
        for name in ("latents_mean", "latents_std"):
            values = getattr(self, name)
            if values is not None and len(values) != self.latent_channels:
                raise UnsupportedConfig(f"{name}={values}: {self.latent_channels} are needed")
        if self.shift_factor is not None and self.latents_mean is not None:
            raise UnsupportedConfig("shift_factor and latents_mean, of which there can be one")

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        if self.latents_mean is not None and self.latents_std is not None:
            return self.latents_mean, self.latents_std
        if self.shift_factor:
            return (self.shift_factor,) * self.latent_channels, (1.0,) * self.latent_channels
        return None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        # diffusers' default of `force_upcast` is true, but Stable Diffusion 1.x files predate it
        # and decode correctly in half precision. SDXL's do not, even if they leave it out
        # (stabilityai/sdxl-vae does): they are recognised by their scale.
        chosen = select(cls, _sized(data), _NEUTRAL)
        of_sdxl = chosen.get("scaling_factor") == SDXL_SCALING_FACTOR
        return cls(**{"force_upcast": of_sdxl, **chosen})

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "AutoencoderKL", "act_fn": "silu", **asdict(self)}


_ASYMMETRIC_LEVELS = 4  # the condition encoder halves the image three times
# diffusers repeats the decoder's widths when it saves; no computation reads the size.
_ASYMMETRIC_IRRELEVANT = {"block_out_channels", "sample_size"}


@dataclass(frozen=True)
class AsymmetricConfig(FirstStageConfig):
    """An encoder (`down_…`) and a larger decoder (`up_…`) that reads images, too (Zhu et al. 2023).

    The widths of both begin with the finest level.
    """

    scaling_factor: float = SD_SCALING_FACTOR
    down_block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",) * _ASYMMETRIC_LEVELS
    layers_per_down_block: int = 2
    up_block_out_channels: tuple[int, ...] = (192, 384, 768, 768)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",) * _ASYMMETRIC_LEVELS
    layers_per_up_block: int = 3
    norm_num_groups: int = 32

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) != RGB:
                raise UnsupportedConfig(f"{name}={getattr(self, name)}: {RGB} are needed")
        first, last = self.up_block_out_channels[0], self.up_block_out_channels[-1]
        widths = tuple(min(first << level, last) for level in range(_ASYMMETRIC_LEVELS))
        if self.up_block_out_channels != widths or first == last:
            # Only of these widths does the condition encoder give the decoder's.
            raise UnsupportedConfig(
                f"up_block_out_channels={self.up_block_out_channels}: {_ASYMMETRIC_LEVELS} are "
                "needed, each twice the one before, or the last"
            )
        _ = self.encoder, self.decoder  # their lists have as many levels, or are refused

    @property
    def encoder(self) -> AutoencoderConfig:
        """Return the autoencoder that has this encoder. Raises UnsupportedConfig."""
        return self._half(self.down_block_out_channels, self.layers_per_down_block)

    @property
    def decoder(self) -> AutoencoderConfig:
        """Return the autoencoder that has this decoder. Raises UnsupportedConfig."""
        return self._half(self.up_block_out_channels, self.layers_per_up_block)

    def _half(self, widths: tuple[int, ...], layers: int) -> AutoencoderConfig:
        return AutoencoderConfig(
            latent_channels=self.latent_channels,
            block_out_channels=widths,
            down_block_types=self.down_block_types,
            up_block_types=self.up_block_types,
            layers_per_block=layers,
            norm_num_groups=self.norm_num_groups,
        )

    @property
    def factor(self) -> int:
        return 1 << (_ASYMMETRIC_LEVELS - 1)

    @property
    def max_channels(self) -> int:
        return self.decoder.max_channels

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        kept = {key: value for key, value in data.items() if key not in _ASYMMETRIC_IRRELEVANT}
        return cls(**select(cls, kept, {"act_fn": ("silu",)}))

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "AsymmetricAutoencoderKL", "act_fn": "silu", **asdict(self)}


@dataclass(frozen=True)
class VQConfig(EncoderDecoderConfig):
    """The autoencoder with a codebook (Rombach et al. 2022, section 3.1; Esser et al. 2021).

    `scaling_factor` is 1 if a file has none: the models of the paper that use a codebook were
    trained on unscaled latents.
    """

    latent_channels: int = 3
    num_vq_embeddings: int = 256
    vq_embed_dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vq_embed_dim not in (None, self.latent_channels):
            raise UnsupportedConfig(f"vq_embed_dim={self.vq_embed_dim}: must equal latent_channels")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**select(cls, _sized(data), _VQ_NEUTRAL))

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "VQModel", "act_fn": "silu", **asdict(self)}


_TINY_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "act_fn": ("relu",),
    "upsample_fn": ("nearest",),
    "upsampling_scaling_factor": (2,),
    "shift_factor": (0.0,),
}

# Keys of tiny autoencoders that repeat others or concern latents stored as bytes.
_TINY_IRRELEVANT = {"block_out_channels", "latent_magnitude", "latent_shift"}


@dataclass(frozen=True)
class TinyConfig(FirstStageConfig):
    """A distilled autoencoder of convolutions only (Bohan 2023, github.com/madebyollin/taesd).

    Its latents are the scaled ones that the UNet takes, so its own factor is 1.
    """

    encoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    num_encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    num_decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)

    def __post_init__(self) -> None:
        for side in ("encoder", "decoder"):
            widths = getattr(self, f"{side}_block_out_channels")
            if len(set(widths)) != 1 or len(widths) != len(self.num_encoder_blocks):
                levels = len(self.num_encoder_blocks)
                raise UnsupportedConfig(f"{side}_block_out_channels={widths}: {levels} equal ones")
        if len(self.num_decoder_blocks) != len(self.num_encoder_blocks):
            raise UnsupportedConfig(f"num_decoder_blocks={self.num_decoder_blocks}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        kept = {key: value for key, value in data.items() if key not in _TINY_IRRELEVANT}
        return cls(**select(cls, kept, _TINY_NEUTRAL))

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "AutoencoderTiny", "act_fn": "relu", **asdict(self)}

    @property
    def factor(self) -> int:
        return 1 << (len(self.num_encoder_blocks) - 1)

    @property
    def max_channels(self) -> int:
        return self.decoder_block_out_channels[-1]
