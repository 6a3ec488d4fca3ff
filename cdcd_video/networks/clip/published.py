"""Published CLIPs by name: their shapes, and the repository and revision with their weights as safetensors.

The revisions could not be checked against the Hub when this was written; docs/data.md, section "CLIP", has the sources. A
file with another SHA-256 than the one given here is refused.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

VOCABULARY = 49_408
"""Token ids of CLIP's tokenizer: byte-pair encoding of lower-case words (Radford et al. 2021)."""


@dataclass(frozen=True)
class Place:
    """A file of a repository on the Hub at one commit."""

    repository: str
    revision: str
    file: str


@dataclass(frozen=True)
class Known:
    """A published CLIP."""

    weights: Place
    sha256: str | None
    """Of the weights; None if no source names it."""
    beside: tuple[Place, ...]
    """Shape, tokenizer and image processor."""
    shape: MappingProxyType[str, Any]
    """The two towers, as arguments of `transformers.CLIPConfig`."""


def _shape(patch: int, width: int, layers: int, text_width: int, joint: int, image: int = 224) -> MappingProxyType:
    vision = dict(image_size=image, patch_size=patch, hidden_size=width, intermediate_size=4 * width)
    vision |= dict(num_hidden_layers=layers, num_attention_heads=width // 64, projection_dim=joint)
    text = dict(hidden_size=text_width, intermediate_size=4 * text_width, num_hidden_layers=12)
    text |= dict(num_attention_heads=text_width // 64, projection_dim=joint, vocab_size=VOCABULARY)
    # The published files say 2, which transformers reads as "the highest id ends the sentence".
    text |= dict(bos_token_id=0, eos_token_id=2, pad_token_id=1)
    return MappingProxyType(dict(vision_config=vision, text_config=text, projection_dim=joint))


def _beside(repository: str, revision: str) -> tuple[Place, ...]:
    files = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
    return tuple(Place(repository, revision, file) for file in files)


_B32, _B32_AT = "openai/clip-vit-base-patch32", "d15b5f29721ca72dac15f8526b284be910de18be"
_B16, _B16_AT = "openai/clip-vit-base-patch16", "57c216476eefef5ab752ec549e440a49ae4ae5f3"
_L14, _L14_AT = "openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"
_EXPORT = ("timm/vit_base_patch16_clip_224.openai", "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d")

KNOWN = MappingProxyType(
    {
        _B32: Known(
            Place(_B32, _B32_AT, "model.safetensors"), None, _beside(_B32, _B32_AT), _shape(32, 768, 12, 512, 512)
        ),
        # Its own repository holds pytorch_model.bin only; OpenCLIP's export of the same weights is without pickle.
        _B16: Known(
            Place(*_EXPORT, "open_clip_model.safetensors"),
            "4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f",
            _beside(_B16, _B16_AT),
            _shape(16, 768, 12, 512, 512),
        ),
        _L14: Known(
            Place(_L14, _L14_AT, "model.safetensors"),
            "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
            _beside(_L14, _L14_AT),
            _shape(14, 1024, 24, 768, 768),
        ),
    }
)
"""By their usual names."""

OPENAI_SHA256 = frozenset(known.sha256 for known in KNOWN.values() if known.sha256)
"""Weights of OpenAI: their activation is quick_gelu, whatever their config says."""
