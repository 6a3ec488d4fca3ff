"""Upstream's diffusion and its loss, run by `functions`, with given logits where its transformer would stand.

loss = UpstreamLoss(upstream, num_codes=50, num_steps=20, num_tokens=64, intra_weight=5e-5, dtype=torch.float64)
per_sample = loss.train_loss(logits, x0, t=t, share=share, x_t=x_t, intra=negatives)
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cdcd_video.engine.runtime import seed_for
from cdcd_video.tools.upstream.functions import DIFFUSION, DIFFUSION_AMP, Upstream


class UpstreamLoss:
    """Upstream's diffusion, its own class with its own constructor, with given logits in the place of a transformer.

    All tensors have upstream's layout: log-probabilities are (B, K + 1, N), times t are 0..T-1 with 0 the least noisy,
    codes are 0..K-1 and [MASK] is K. Only the logits are (B, N, K), as a head computes them; upstream sees the view
    (B, K, N) of them, as its own network would hand it.

    Attributes:
      model: upstream's object, for whatever is not wrapped here (`Lt_history`, `p_sample`, ...).
      symbols: the namespace it lives in.
      calls: how often its own random draws were seeded so far.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        num_codes: int,
        num_steps: int,
        num_tokens: int,
        file: str = DIFFUSION,
        auxiliary_weight: float = 5e-4,
        adaptive: bool = True,
        token_weight: tuple[float, float] = (1.0, 1.0),
        intra_weight: float = 0.0,
        inter_weight: float = 0.0,
        intra_mode: str = "step",
        inter_mode: str = "sample",
        num_intra: int = 10,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ):
        """Builds it.

        Args:
          upstream: the checkout.
          num_codes: K.
          num_steps: T.
          num_tokens: N.
          file: which of upstream's losses; `DIFFUSION_AMP` knows no contrast.
          auxiliary_weight: of the x_0 term; upstream's configs have 5e-4.
          adaptive: upstream's `adaptive_auxiliary_loss`: weights change with t.
          token_weight: upstream's `mask_weight`, of masked and of other tokens.
          intra_weight: of the contrast with permuted samples; 0 leaves it out.
          inter_weight: of the contrast with ten other samples; 0 leaves it out.
          intra_mode, inter_mode: "step" or "sample".
          num_intra: permuted samples.
          dtype: torch.float64 runs upstream in double precision throughout, with its `.float()` made harmless.
          device: where the model lies.
          seed: of its chunk permutations and of its own draws of t and x_t.
        """
        self._transformer = _GivenLogits(num_codes + 1)
        self._dtype, self._device, self._seed = dtype, torch.device(device), seed
        self.calls = 0
        given = {"instantiate_from_config": lambda config: self._transformer, "predict_condition": False}
        self.symbols = upstream.symbols(file, ["DiffusionTransformer"], seed=seed, **given)
        contrast = {
            "contrastive_intra_loss_weight": intra_weight,
            "contrastive_inter_loss_weight": inter_weight,
            "intra_neg_sample": num_intra,
            "intra_mode": intra_mode,
            "inter_mode": inter_mode,
        }
        self._has_contrast = file != DIFFUSION_AMP
        with _precision(dtype):
            self.model = self.symbols["DiffusionTransformer"](
                transformer_config={"params": {"content_seq_len": num_tokens}},
                diffusion_step=num_steps,
                alpha_init_type="alpha1",
                auxiliary_loss_weight=auxiliary_weight,
                adaptive_auxiliary_loss=adaptive,
                mask_weight=list(token_weight),
                **(contrast if self._has_contrast else {}),
            ).to(self._device)

    def log_one_hot(self, x: Tensor) -> Tensor:
        """Upstream's log one-hot of codes (B, N): 0 and log 1e-30."""
        with _precision(self._dtype):
            return self.symbols["index_to_log_onehot"](x, self.model.num_classes)

    def q_pred(self, log_x0: Tensor, t: Tensor) -> Tensor:
        """log q(x_t | x_0); t = -1 is the data."""
        with _precision(self._dtype):
            return self.model.q_pred(log_x0, t)

    def q_pred_one_timestep(self, log_x: Tensor, t: Tensor) -> Tensor:
        """log q(x_t | x_(t-1))."""
        with _precision(self._dtype):
            return self.model.q_pred_one_timestep(log_x, t)

    def q_posterior(self, log_x0: Tensor, log_x_t: Tensor, t: Tensor) -> Tensor:
        """log q(x_(t-1) | x_t, x_0), mixed over x_0 where `log_x0` is not one-hot."""
        with _precision(self._dtype):
            return self.model.q_posterior(log_x0, log_x_t, t)

    def predict_start(self, logits: Tensor, log_x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x_0 | x_t) of given logits (B, N, K)."""
        self._transformer.logits = logits
        with _precision(self._dtype):
            return self.model.predict_start(log_x_t, None, t)

    def p_pred(self, logits: Tensor, log_x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x_(t-1) | x_t) of given logits (B, N, K)."""
        self._transformer.logits = logits
        with _precision(self._dtype):
            return self.model.p_pred(log_x_t, None, t)

    def train_loss(
        self,
        logits: Tensor,
        x0: Tensor,
        *,
        t: Tensor | None = None,
        share: Tensor | None = None,
        x_t: Tensor | None = None,
        intra: Tensor | None = None,
        inter: Tensor | None = None,
    ) -> Tensor:
        """Upstream's whole training loss, by its own `_train_loss`, differentiable in the logits.

        Args:
          logits: (B, N, K).
          x0: (B, N) codes.
          t, share: (B,) times and the probabilities they were drawn with; upstream draws them itself if not given.
          x_t: (B, N) corrupted codes; likewise.
          intra: (B, M, N) negatives in the place of permutations of x0; likewise.
          inter: (B, 10, N) other samples; only these must be given where `inter_weight` is not 0.

        Returns:
          (B,) nats over all tokens; upstream's scalar is the sum over B N.
        """
        self._transformer.logits = logits
        own: dict[str, Any] = {}
        if t is not None:
            own["sample_time"] = lambda *_: (t, share)
        if x_t is not None:
            own["q_sample"] = lambda **_: self.log_one_hot(x_t)
        around: dict[str, Any] = {}
        if intra is not None:
            own["intra_neg_sample"] = intra.shape[1]
            negatives = iter(intra.unbind(1))
            around["neg_sampling"] = lambda x, mode: next(negatives)
        others = (inter,) if self._has_contrast else ()
        with _replaced(vars(self.model), own), _replaced(self.symbols, around), self._seeded(), _precision(self._dtype):
            return self.model._train_loss(x0, None, *others)[1]

    @contextlib.contextmanager
    def _seeded(self) -> Iterator[None]:
        """Upstream draws from torch's global generators: they are seeded for it and left as they were."""
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed_for("upstream", self._seed, self.calls))
            self.calls += 1
            yield


class _GivenLogits(nn.Module):
    """Stands where upstream's transformer would: whatever it is shown, it answers with `logits`."""

    def __init__(self, num_states: int):
        super().__init__()
        self.content_emb = nn.Module()
        self.content_emb.num_embed = num_states
        self.logits: Tensor | None = None

    def forward(self, x_t: Tensor, condition: None, t: Tensor) -> Tensor:
        return self.logits.transpose(1, 2)


class _FloatIsDouble(TorchFunctionMode):
    """Under it `.float()` gives float64, so that upstream's hard-wired single precision does not show."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return (torch.Tensor.double if function is torch.Tensor.float else function)(*args, **(kwargs or {}))


@contextlib.contextmanager
def _precision(dtype: torch.dtype) -> Iterator[None]:
    if dtype == torch.float32:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with _FloatIsDouble():
            yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _replaced(names: dict[str, Any], values: dict[str, Any]) -> Iterator[None]:
    """Puts values under names of an object or namespace, and takes them away again."""
    before = {name: names[name] for name in values if name in names}
    names.update(values)
    try:
        yield
    finally:
        for name in values:
            del names[name]
        names.update(before)
