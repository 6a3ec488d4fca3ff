"""Converts OpenCLIP exports, config and tensors, to `transformers.CLIPModel`."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cdcd_video.errors import UserError
from cdcd_video.networks.clip.published import OPENAI_SHA256, VOCABULARY

_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_NAMES = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}


def config_of(folder: Path, given: dict[str, Any], activation: str) -> dict[str, Any]:
    """The two towers' shapes, as `transformers.CLIPConfig` is called.

    Args:
      given: open_clip_config.json.

    Raises:
      UserError: it is not a plain ViT with CLIP's own text tower, or the config is incomplete.
    """
    try:
        model = given["model_cfg"]
        vision, text, joint = model["vision_cfg"], model["text_cfg"], model["embed_dim"]
        is_plain = (
            not {"timm_model_name", "hf_model_name"} & {*vision, *text} and vision.get("pool_type", "tok") == "tok"
        )
        if not (is_plain and isinstance(vision["layers"], int) and isinstance(vision["image_size"], int)):
            raise UserError(
                f"CLIP folder {folder} is an OpenCLIP export whose towers are not CLIP's own ViT and text transformer;"
                " use one that has them, such as ViT-B-16"
            )
        width, text_width = vision["width"], text["width"]
        vision_config = dict(image_size=vision["image_size"], patch_size=vision["patch_size"], hidden_size=width)
        vision_config |= dict(intermediate_size=round(width * vision.get("mlp_ratio", 4.0)))
        vision_config |= dict(num_hidden_layers=vision["layers"])
        vision_config |= dict(num_attention_heads=width // vision.get("head_width", 64))
        text_config = dict(vocab_size=text.get("vocab_size", VOCABULARY), hidden_size=text_width)
        text_config |= dict(max_position_embeddings=text.get("context_length", 77))
        text_config |= dict(intermediate_size=round(text_width * text.get("mlp_ratio", 4.0)))
        text_config |= dict(num_hidden_layers=text["layers"], num_attention_heads=text["heads"])
        # OpenCLIP pools the text at the highest id; transformers means the same by an end id of 2.
        text_config |= dict(eos_token_id=2, bos_token_id=0, pad_token_id=1)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"CLIP folder {folder} is damaged (open_clip_config.json: {error}); copy it again") from error
    both = dict(projection_dim=joint, hidden_act=activation)
    return dict(vision_config=vision_config | both, text_config=text_config | both, projection_dim=joint)


def tensors_of(tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The export's tensors under the names of `transformers.CLIPModel`, in 32 bits.

    Raises:
      UserError: a tensor that no CLIP of this kind has.
    """
    named: dict[str, Tensor] = {}
    for key, value in tensors.items():
        value = value.float()
        key = key.removeprefix("text.")  # newer exports keep the text tower apart
        block = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.?(weight|bias)", key)
        if key in _NAMES:
            named[_NAMES[key]] = value.reshape(()) if key == "logit_scale" else value
        elif key in _TRANSPOSED:
            named[_TRANSPOSED[key]] = value.T.contiguous()
        elif block:
            tower, number, part, kind = block.groups()
            home = f"{'vision' if tower else 'text'}_model.encoder.layers.{number}"
            part = part.rstrip(".")
            if part == "attn.in_proj_":
                for name, third in zip("qkv", value.chunk(3), strict=True):
                    named[f"{home}.self_attn.{name}_proj.{kind}"] = third.contiguous()
            elif part in _BLOCK:
                named[f"{home}.{_BLOCK[part]}.{kind}"] = value
            else:
                raise _strange(folder, key)
        elif key != "attn_mask":
            raise _strange(folder, key)
    return named


def activation_of(folder: Path, given: dict[str, Any], sha256: str, tensors: dict[str, Tensor]) -> str:
    """The activation: OpenAI trained with x sigmoid(1.702 x), and OpenCLIP's configs mean GELU by default.

    Args:
      given: open_clip_config.json.
      tensors: the weights, as they are in the file.

    Raises:
      UserError: the config has no activation, and the weights look like OpenAI's.
    """
    quick_gelu = given.get("model_cfg", {}).get("quick_gelu")
    if sha256 in OPENAI_SHA256 or quick_gelu is True:
        return "quick_gelu"
    if quick_gelu is None and looks_like_openai(tensors):
        raise UserError(
            f"CLIP folder {folder} looks like OpenAI's weights (16-bit matrices beside 32-bit norms), which need quick_gelu,"
            ' but its open_clip_config.json does not say so; set "quick_gelu": true in its model_cfg, or'
            " false if they are not OpenAI's"
        )
    return "gelu"


def looks_like_openai(tensors: dict[str, Tensor]) -> bool:
    """Whether matrices are representable in 16 bits and norms are not, as OpenAI's code leaves its weights."""
    matrices = [value for key, value in tensors.items() if key.endswith(("c_fc.weight", "c_proj.weight"))]
    norms = [value for key, value in tensors.items() if "ln_" in key and key.endswith("weight")]

    def is_short(value: Tensor) -> bool:
        return torch.equal(value.float(), value.half().float())

    return bool(matrices) and all(map(is_short, matrices)) and not all(map(is_short, norms))


def _strange(folder: Path, key: str) -> UserError:
    return UserError(
        f"CLIP folder {folder} is an OpenCLIP export with the tensor {key}, which no plain ViT CLIP has; use one of those"
    )
