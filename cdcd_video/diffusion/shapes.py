"""Shapes that the whole package shares: B examples, N tokens of a frame, K codes; [MASK] is the code K."""

from collections.abc import Callable

from jaxtyping import Float, Float64, Int64
from torch import Tensor

Codes = Int64[Tensor, "B N"]
"""Codes of frames in 0..K-1, or in 0..K where [MASK] is allowed."""
Time = Float[Tensor, "B"]
"""A time of each example, from 0 (data) to 1 (noise)."""
Logits = Float[Tensor, "B N K"]
"""Of x_0 given x_t, or log-probabilities."""
Dense = Float64[Tensor, "B N K1"]
"""Log-probabilities over 0..K, for reading and testing."""

Denoise = Callable[[Codes, Time], Logits]
"""A denoiser with its condition: (x_t, t in float32) -> logits of x_0."""
