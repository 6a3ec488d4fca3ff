"""The two towers of a small CLIP in plain torch, and its tokenizer: what a drawing needs of the built-in CLIP, without the
seconds that importing `transformers` takes.

Names of parameters, order of operations and results are those of `transformers.CLIPModel` with attention "eager" (Radford et
al. 2021); tests hold them equal to the bit. Published CLIPs, and whatever is trained, go through `transformers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cdcd_video.networks.clip.clip_files import ClipFiles, read_json
from cdcd_video.networks.patch_grid import positions_on, square_grid
from cdcd_video.records import Grid

WIDE = 512
"""From this width on a tower attends by torch's fused kernels; small ones keep the plain sums they were trained with."""
_TEXT = dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8, vocab_size=49408)
_TEXT |= dict(max_position_embeddings=77, eos_token_id=49407)
_VISION = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=224)
_VISION |= dict(patch_size=32)
_SHARED = dict(hidden_act="quick_gelu", layer_norm_eps=1e-5)
"""What a `config.json` that leaves a number out means by it."""


@dataclass(frozen=True)
class Output:
    """What a tower gives.

    Attributes:
      hidden_states: after the embedding layer and after each block.
      last_hidden_state: the last of them (of the text tower, normalised).
      pooler_output: the state that stands for the whole.
    """

    hidden_states: tuple[Float[Tensor, "B N D"], ...]
    last_hidden_state: Float[Tensor, "B N D"]
    pooler_output: Float[Tensor, "B D"]


@dataclass(frozen=True)
class Config:
    """The parts of `transformers.CLIPConfig` that are asked for."""

    vision_config: Any
    text_config: Any
    projection_dim: int


def config_of(files: ClipFiles) -> Config | None:
    """The config of a small CLIP that this package trained, or None where `transformers` has to read it.

    Raises:
      UserError: the config is damaged.
    """
    folder = files.folder
    if files.layout != "transformers" or not (folder / "words.json").is_file():
        return None  # `words.json` lies beside what `built_in.save_clip` wrote, and beside nothing else
    given = read_json(folder / "config.json")
    sections = [given.get("vision_config"), given.get("text_config")]
    if given.get("model_type") != "clip" or not all(isinstance(section, dict) for section in sections):
        return None
    vision, text = ({**_SHARED, **known, **section} for known, section in zip((_VISION, _TEXT), sections, strict=True))
    is_plain = all(
        section["hidden_act"] == _SHARED["hidden_act"] and section["hidden_size"] < WIDE for section in (vision, text)
    )
    return Config(_Section(vision), _Section(text), given.get("projection_dim", 512)) if is_plain else None


class _Section:
    def __init__(self, values: Mapping[str, Any]):
        vars(self).update(values)


class Attention(nn.Module):
    """Multi-head self-attention, written out."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads, self.scale = num_heads, (width // num_heads) ** -0.5
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B N D"], mask: Tensor | None) -> Float[Tensor, "B N D"]:
        q, k, v = (
            part(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = q @ k.transpose(-1, -2) * self.scale
        weights = (scores if mask is None else scores + mask).softmax(-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with x sigmoid(1.702 x) between them (Hendrycks & Gimpel 2016, the approximation)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class Layer(nn.Module):
    """A pre-norm block."""

    def __init__(self, cfg: Any):
        super().__init__()
        self.self_attn = Attention(cfg.hidden_size, cfg.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(cfg.hidden_size, eps=cfg.layer_norm_eps)
        self.mlp = Mlp(cfg.hidden_size, cfg.intermediate_size)
        self.layer_norm2 = nn.LayerNorm(cfg.hidden_size, eps=cfg.layer_norm_eps)

    def forward(self, x: Float[Tensor, "B N D"], mask: Tensor | None) -> Float[Tensor, "B N D"]:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    """The blocks of a tower."""

    def __init__(self, cfg: Any):
        super().__init__()
        self.layers = nn.ModuleList(Layer(cfg) for _ in range(cfg.num_hidden_layers))

    def forward(self, x: Float[Tensor, "B N D"], mask: Tensor | None = None) -> tuple[Float[Tensor, "B N D"], ...]:
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return tuple(states)


def _table(num: int, width: int) -> nn.Embedding:
    """An embedding without first values: to draw normal ones on the device `meta`, torch imports its whole compiler."""
    return nn.Embedding.from_pretrained(torch.empty(num, width), freeze=False)


class VisionEmbeddings(nn.Module):
    """The class token and the patches, with their positions."""

    def __init__(self, cfg: Any):
        super().__init__()
        size, patch = cfg.hidden_size, cfg.patch_size
        self.class_embedding = nn.Parameter(torch.empty(size))
        self.patch_embedding = nn.Conv2d(3, size, patch, stride=patch, bias=False)
        self.position_embedding = _table((cfg.image_size // patch) ** 2 + 1, size)

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        patches = self.patch_embedding(pixels)
        first = self.class_embedding.expand(len(pixels), 1, -1)
        positions = self._positions((patches.shape[2], patches.shape[3]))
        return torch.cat([first, patches.flatten(2).transpose(1, 2)], 1) + positions

    def _positions(self, grid: Grid) -> Float[Tensor, "N D"]:
        """Those of the class token and of the patches of a grid; the learned ones are of a square grid."""
        learned = self.position_embedding.weight
        if grid == square_grid(len(learned) - 1):
            return learned
        return torch.cat([learned[:1], positions_on(learned[1:], grid, "bicubic")])


class VisionTower(nn.Module):
    """Pixels -> states of the class token and the patches."""

    def __init__(self, cfg: Any):
        super().__init__()
        self.embeddings = VisionEmbeddings(cfg)
        self.pre_layrnorm = nn.LayerNorm(cfg.hidden_size, eps=cfg.layer_norm_eps)
        self.encoder = Encoder(cfg)
        self.post_layernorm = nn.LayerNorm(cfg.hidden_size, eps=cfg.layer_norm_eps)

    def forward(
        self,
        pixel_values: Float[Tensor, "B 3 H W"],
        output_hidden_states: bool = True,
        interpolate_pos_encoding: bool = True,
    ) -> Output:
        states = self.encoder(self.pre_layrnorm(self.embeddings(pixel_values)))
        return Output(states, states[-1], self.post_layernorm(states[-1][:, 0]))


class TextEmbeddings(nn.Module):
    """Tokens with their positions."""

    def __init__(self, cfg: Any):
        super().__init__()
        self.token_embedding = _table(cfg.vocab_size, cfg.hidden_size)
        self.position_embedding = _table(cfg.max_position_embeddings, cfg.hidden_size)

    def forward(self, input_ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        return self.token_embedding(input_ids) + self.position_embedding.weight[: input_ids.shape[1]]


class TextTower(nn.Module):
    """Token ids -> states; every token sees those before it."""

    def __init__(self, cfg: Any):
        super().__init__()
        self.embeddings = TextEmbeddings(cfg)
        self.encoder = Encoder(cfg)
        self.final_layer_norm = nn.LayerNorm(cfg.hidden_size, eps=cfg.layer_norm_eps)
        self.end_id = cfg.eos_token_id

    def forward(self, input_ids: Int[Tensor, "B L"], attention_mask: Int[Tensor, "B L"]) -> Output:
        x = self.embeddings(input_ids)
        states = self.encoder(x, _causal(attention_mask.bool(), x.dtype))
        last = self.final_layer_norm(states[-1])
        end = (input_ids == self.end_id).int().argmax(-1)
        return Output(states, last, last[torch.arange(len(last), device=last.device), end])


def _causal(is_word: Bool[Tensor, "B L"], dtype: torch.dtype) -> Float[Tensor, "B 1 L L"]:
    """What is added to the scores: 0 where a token may look, the least number of the type elsewhere."""
    length = is_word.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=is_word.device).tril()
    may = before & is_word[:, None, None, :]
    return torch.zeros(may.shape, dtype=dtype, device=may.device).masked_fill(~may, torch.finfo(dtype).min)


class PlainClip(nn.Module):
    """Both towers and their projections into the joint space."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        joint = config.projection_dim
        self.text_model = TextTower(config.text_config)
        self.vision_model = VisionTower(config.vision_config)
        self.visual_projection = nn.Linear(config.vision_config.hidden_size, joint, bias=False)
        self.text_projection = nn.Linear(config.text_config.hidden_size, joint, bias=False)
        self.logit_scale = nn.Parameter(torch.empty(()))


@dataclass(frozen=True)
class Batch:
    """Token ids and mask of some sentences: tensors (B, L), or lists for one sentence."""

    input_ids: Any
    attention_mask: Any


class PlainTokenizer:
    """`tokenizer.json` and the names of its special tokens, through the library `tokenizers` alone.

    Args:
      folder: of a `save_pretrained` tokenizer.
    """

    is_fast = True

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        names = read_json(folder / "tokenizer_config.json")
        self._eos, self._pad = names.get("eos_token"), names["pad_token"]
        if self._pad is None or self._tokenizer.token_to_id(self._pad) is None:
            raise ValueError(f"the pad_token {self._pad!r} is no token")
        if not isinstance(most := names.get("model_max_length", 0), (int, float)):
            raise ValueError(f"model_max_length is {most!r}")

    @property
    def backend_tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer`."""
        return self._tokenizer

    @property
    def eos_token_id(self) -> int | None:
        """Of the token that ends a sentence; None where none is named."""
        return None if self._eos is None else self._tokenizer.token_to_id(self._eos)

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def num_special_tokens_to_add(self) -> int:
        """Tokens that are put around one sentence."""
        return self._tokenizer.num_special_tokens_to_add(is_pair=False)

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        padding: bool = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> Batch:
        """Token ids of one sentence, or of several, padded to the longest of them."""
        if isinstance(text, str):
            encoded = self._tokenizer.encode(text)
            return Batch(encoded.ids, encoded.attention_mask)
        if truncation and max_length:
            self._tokenizer.enable_truncation(max_length)
        encodings = self._tokenizer.encode_batch(list(text))
        self._tokenizer.no_truncation()
        rows = [torch.tensor(encoding.ids) for encoding in encodings]
        pad = self._tokenizer.token_to_id(self._pad)
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
        lengths = torch.tensor([len(row) for row in rows])
        return Batch(ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long())
