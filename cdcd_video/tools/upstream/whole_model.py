"""Upstream's whole model out of a user's own checkout: its transformer, its diffusion, its average of the weights.

Inputs replace the other parts: word states of the caption instead of CLIP, and codes instead of the image codec. Nothing of
upstream is kept here; see `tools.upstream`.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cdcd_video.tools.bench.upstream_shapes import Shape, Trunk
from cdcd_video.tools.upstream.functions import DIFFUSION, Upstream

TRANSFORMER = "synthesis/modeling/transformers/transformer_utils.py"
EMBEDDING = "synthesis/modeling/embeddings/dalle_mask_image_embedding.py"
EMBEDDING_BASE = "synthesis/modeling/embeddings/base_embedding.py"
EMA = "synthesis/engine/ema.py"
CLIPPING = "synthesis/engine/clip_grad_norm.py"
WHOLE = "synthesis/modeling/models/dalle.py"
"""Where upstream's truncation is."""


class UpstreamModel:
    """Upstream's `DiffusionTransformer` around its own `Text2ImageTransformer`, as its configs put them together.

    Attributes:
      model: upstream's object.
      upstream: the checkout it came from.
    """

    def __init__(
        self,
        upstream: Upstream,
        shape: Shape,
        trunk: Trunk,
        *,
        auxiliary_weight: float = 5e-4,
        intra_weight: float = 0.0,
        num_intra: int = 10,
        device: torch.device | str = "cpu",
    ):
        """Builds it with random weights, drawn from torch's global generator.

        Args:
          upstream: the checkout.
          shape, trunk: sizes; the tokens must be a square number of places.
          auxiliary_weight: of the x_0 term.
          intra_weight: of the contrast with permuted samples, step by step; 0 leaves it out.
          num_intra: permuted samples.
          device: where it lies.

        Raises:
          UserError: the checkout lacks something.
        """
        self.upstream, self.device = upstream, torch.device(device)
        classes: dict[str, Any] = {}

        def build(config: dict[str, Any]) -> nn.Module:
            return classes[config["target"]](**config["params"])

        given = {"instantiate_from_config": build}
        classes |= upstream.symbols(EMBEDDING, ["DalleMaskImageEmbedding"], **_base(upstream))
        classes |= upstream.symbols(TRANSFORMER, ["Text2ImageTransformer"], **given)
        classes |= upstream.symbols(DIFFUSION, ["DiffusionTransformer"], **given, predict_condition=False)
        side = round(shape.num_tokens**0.5)
        transformer = {
            "attn_type": "selfcross",
            "n_layer": trunk.num_layers,
            "condition_seq_len": trunk.text_tokens,
            "content_seq_len": shape.num_tokens,
            "content_spatial_size": [side, side],
            "n_embd": trunk.width,
            "condition_dim": trunk.text_width,
            "n_head": trunk.num_heads,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "block_activate": "GELU2",
            "timestep_type": "adalayernorm",
            "mlp_hidden_times": 2,
            "mlp_type": "conv_mlp",
        }
        embedding = {
            "num_embed": shape.num_codes,
            "spatial_size": (side, side),
            "embed_dim": trunk.width,
            "trainable": True,
            "pos_emb_type": "embedding",
        }
        self.model = classes["DiffusionTransformer"](
            transformer_config={"target": "Text2ImageTransformer", "params": transformer},
            content_emb_config={"target": "DalleMaskImageEmbedding", "params": embedding},
            diffusion_step=shape.num_steps,
            alpha_init_type="alpha1",
            auxiliary_loss_weight=auxiliary_weight,
            adaptive_auxiliary_loss=True,
            mask_weight=[1, 1],
            contrastive_intra_loss_weight=intra_weight,
            intra_neg_sample=num_intra,
            intra_mode="step",
        ).to(self.device)

    def loss(self, codes: Tensor, text: Tensor) -> Tensor:
        """Its training loss of codes (B, N) and word states (B, L, Dt), a scalar that can be differentiated."""
        given = {"content_token": codes, "condition_token": None, "condition_embed_token": text}
        with _at_home(self.device):
            return self.model(given, return_loss=True)["loss"]

    def average(self, decay: float, interval: int) -> Any:
        """Its own moving average of the weights; `update(iteration)` moves it."""
        ema = self.upstream.symbols(EMA, ["EMA"])["EMA"]
        return ema(self.model, decay=decay, update_interval=interval, device=self.device)

    def clipping(self, most: float) -> Callable[..., None]:
        """Its own clipping of the gradient, called with the parameters."""
        return self.upstream.symbols(CLIPPING, ["ClipGradNorm"])["ClipGradNorm"](max_norm=most)

    def truncate(self, share: float) -> None:
        """From now on it samples as its inference scripts do: x_0 truncated to the likeliest codes of so much mass."""
        name = "predict_start_with_truncation"
        wrap = self.upstream.symbols(WHOLE, [f"DALLE.{name}"])[name]
        self.model.predict_start = wrap(None, self.model.predict_start, f"top{share}r")

    @torch.no_grad()
    def sample(self, text: Tensor, skip: int = 0) -> Tensor:
        """Codes (B, N) by its own sampler, from all [MASK].

        Args:
          text: (B, L, Dt) word states.
          skip: of its `sample_fast`: so many steps are left out after each; 0 takes all.
        """
        given = {"condition_token": None, "condition_mask": None, "condition_embed": text, "filter_ratio": 0}
        with _at_home(self.device):
            if skip:
                # It asks the caption's tokens for the batch size, and looks at nothing else of them.
                given["condition_token"] = text
                return self.model.sample_fast(**given, skip_step=skip)["content_token"]
            return self.model.sample(**given, batch_size=len(text))["content_token"]


def _base(upstream: Upstream) -> dict[str, Any]:
    return {"BaseEmbedding": upstream.symbols(EMBEDDING_BASE, ["BaseEmbedding"])["BaseEmbedding"]}


@contextlib.contextmanager
def _at_home(device: torch.device) -> Iterator[None]:
    """Upstream's transformer sends the time to a GPU, whatever the rest lies on; without one it stays where it is."""
    if device.type == "cuda":
        yield
        return
    before = torch.Tensor.cuda
    torch.Tensor.cuda = lambda self, *_, **__: self
    try:
        yield
    finally:
        torch.Tensor.cuda = before
