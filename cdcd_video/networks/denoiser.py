"""p(x0 | x_t, t, source codes, first-frame codes, caption, dt): a transformer over patches."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cdcd_video.config import DenoiserConfig
from cdcd_video.kernels.products import linear
from cdcd_video.networks.conditional_transformer import CachedCondition, ConditionalTransformer
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.last_frame import LastFrameInput, no_last_frame


class Denoiser(ConditionalTransformer):
    """Transformer with adaptive norm on t, dt and age, self-attention over patches, cross-attention to the caption.

    A code enters as its table entry and a free embedding. A logit is the sum of one logit per digit of the code, a free logit
    of the code, and learned weights on the digits of source and first frame, so that what does not move is copied; and on those
    of the last frame, with `takes_last`.

    Args:
      levels: grid points per digit of one code, (K,) for codes without digits.
      table: (K, d) where each code lies.
      num_patches, groups: N = num_patches x groups tokens.
      text_width: width of the caption's token states.
      mlp_width: of the blocks; four times their width when not given.
      takes_last: whether a condition may have a last frame (`LastFrameInput`).
    """

    needs_digits = False
    """Whether codes without digits are treated as one digit (for subclasses that use `digits`)."""
    geometry: Tensor
    digits: Tensor
    repeats: Tensor

    def __init__(
        self,
        cfg: DenoiserConfig,
        *,
        levels: tuple[int, ...],
        table: Float[Tensor, "K d"],
        num_patches: int,
        groups: int,
        text_width: int,
        mlp_width: int | None = None,
        takes_last: bool = False,
    ):
        super().__init__()
        width, self.groups = cfg.width, groups
        self.num_codes = len(table)
        self.mask_id = self.num_codes
        self.levels = tuple(levels)
        self.has_digits = len(self.levels) > 1 or self.needs_digits
        with_mask = torch.cat([table.float(), torch.zeros(1, table.shape[1])])
        is_mask = (torch.arange(self.num_codes + 1) == self.mask_id).float()[:, None]
        self.register_buffer("geometry", torch.cat([with_mask, is_mask], 1), persistent=False)
        if self.has_digits:
            self.register_buffer("digits", digit_rows(self.levels), persistent=False)
            self.register_buffer("repeats", torch.tensor(self.levels * groups), persistent=False)

        read = groups * self.geometry.shape[1]
        self.geometry_in = nn.Linear(3 * read, width)
        self.code_in = nn.Embedding(3 * groups * (self.num_codes + 1), width)
        self._add_trunk(cfg, num_patches=num_patches, text_width=text_width, mlp_width=mlp_width)
        per_code = sum(self.levels)
        self.to_digits = nn.Linear(width, groups * per_code)
        self.to_codes = nn.Linear(width, groups * self.num_codes)
        self.to_copy = nn.Linear(width, 2 * groups * len(self.levels))
        nn.init.normal_(self.code_in.weight, std=0.02)
        for layer in (self.to_digits, self.to_codes, self.to_copy):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.to_copy.bias[: groups * len(self.levels)] = 2.0  # begin by copying the source
        self.last_in: LastFrameInput | None = None
        if takes_last:  # after all others, so that their fresh weights are the same with and without it
            rows, copied = groups * (self.num_codes + 1), groups * len(self.levels)
            self.last_in = LastFrameInput(width, geometry_width=read, num_embeddings=rows, num_copied=copied)

    def forward(
        self, x_t: Int[Tensor, "B N"], t: Float[Tensor, "B"], condition: Condition | CachedCondition
    ) -> Float[Tensor, "B N K"]:
        """Corrupted codes at times t in (0, 1] -> logits over clean codes (never over the mask)."""
        return self._predict(x_t, t, condition)

    def with_hidden(
        self, x_t: Int[Tensor, "B N"], t: Float[Tensor, "B"], condition: Condition | CachedCondition
    ) -> tuple[Float[Tensor, "B N K"], Float[Tensor, "B P D"]]:
        """As `forward`; and the states of the patches after the first half of the blocks (the middle one of an odd number)."""
        hidden: list[Tensor] = []
        logits = self._predict(x_t, t, condition, hidden)
        return logits, hidden[0]

    def _predict(
        self, x_t: Tensor, t: Tensor, condition: Condition | CachedCondition, hidden: list[Tensor] | None = None
    ) -> Tensor:
        prepared = self.prepare(condition) if isinstance(condition, Condition) else condition
        x = self._read(x_t, 0) + prepared.positions
        return self._logits(self._trunk(x, t, prepared, hidden), prepared.copies)

    def _read(self, codes: Int[Tensor, "B N"], role: int) -> Float[Tensor, "B P D"]:
        """Codes in one of three roles (x_t, source, first) -> their part of the input, patch by patch."""
        geometry, rows = self._patches(codes, role)
        weight = self.geometry_in.weight.chunk(3, 1)[role]
        bias = self.geometry_in.bias if role == 0 else None
        return nn.functional.linear(geometry, weight, bias) + self.code_in(rows).sum(2)

    def _patches(self, codes: Int[Tensor, "B N"], role: int) -> tuple[Float[Tensor, "B P G"], Int[Tensor, "B P g"]]:
        """Where the codes of each patch lie, and their rows in a table of embeddings."""
        per_patch = codes.unflatten(1, (-1, self.groups))
        offset = (torch.arange(self.groups, device=codes.device) + role * self.groups) * (self.num_codes + 1)
        return self.geometry[per_patch].flatten(2), per_patch + offset

    def prepare(
        self, condition: Condition, keys_values: tuple[tuple[Tensor, Tensor], ...] | None = None
    ) -> CachedCondition:
        """As every trunk does; and the last frame, or that there is none."""
        prepared = super().prepare(condition, keys_values)
        if self.last_in is None:
            assert condition.last is None, "this denoiser was built without takes_last"
            return prepared
        last = condition.last or no_last_frame(condition.source)
        copied = self._copied_where(last.codes, last.is_there[:, None, None])
        return replace(
            prepared,
            positions=prepared.positions + self.last_in.read(*self._patches(last.codes, 0), last),
            time_offset=self.last_in.time(last),
            copies=(*prepared.copies, copied),
        )

    def _copies(self, source: Tensor, first: Tensor, is_there: Tensor) -> tuple[Tensor, Tensor]:
        return self._copied(source), self._copied_where(first, is_there)

    def _copied_where(self, codes: Int[Tensor, "B N"], is_there: Tensor) -> Tensor:
        copied = self._copied(codes)
        return copied * is_there if self.has_digits else copied.where(is_there, -1)

    def _copied(self, codes: Int[Tensor, "B N"]) -> Tensor:
        """One-hot digits of codes, patch by patch; the codes themselves where they have no digits."""
        if not self.has_digits:
            return codes.unflatten(1, (-1, self.groups))
        return self.digits[codes].unflatten(1, (-1, self.groups)).flatten(2)

    def _logits(self, x: Float[Tensor, "B P D"], copied: tuple[Tensor, ...]) -> Float[Tensor, "B N K"]:
        pulls = self.to_copy(x).chunk(2, -1)
        if self.last_in is not None:
            pulls = (*pulls, self.last_in.to_copy(x))
        if not self.has_digits:
            return self._logits_of_codes(x, pulls, copied)
        per_digit = self.to_digits(x).float()
        for pull, onehot in zip(pulls, copied, strict=True):
            spread = pull.float().repeat_interleave(self.repeats, -1, output_size=onehot.shape[-1])
            per_digit = per_digit + spread * onehot
        per_digit = per_digit.unflatten(-1, (self.groups, -1))
        per_code = self.to_codes(x).float().unflatten(-1, (self.groups, -1))
        return (per_digit @ self.digits.T + per_code).flatten(1, 2)

    def _logits_of_codes(
        self, x: Float[Tensor, "B P D"], pulls: tuple[Tensor, ...], copied: tuple[Tensor, ...]
    ) -> Float[Tensor, "B N K"]:
        """`_logits` where a code is its only digit: the two maps to codes are one, and a copy is one code."""
        weight, bias = self.to_digits.weight + self.to_codes.weight, self.to_digits.bias + self.to_codes.bias
        logits = linear(x, weight, bias).to(torch.float32, copy=True)
        start = torch.arange(self.groups, device=x.device) * self.num_codes
        for pull, codes in zip(pulls, copied, strict=True):  # not into a view: autograd would copy its whole gradient
            logits.scatter_add_(-1, codes.clamp(min=0) + start, pull.float() * (codes >= 0))
        return logits.unflatten(-1, (self.groups, -1)).flatten(1, 2)


def digit_rows(levels: tuple[int, ...]) -> Float[Tensor, "K Q"]:
    """One-hot digits of every code, side by side (Q = sum of levels); the first digit runs fastest."""
    rows = torch.arange(math.prod(levels))
    columns = []
    for num in levels:
        columns.append(nn.functional.one_hot(rows % num, num).float())
        rows = rows // num
    return torch.cat(columns, 1)
