"""Chains in which a [MASK] is for ever, beside their transition matrices, step by step; and numbers of upstream's."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from worlds import KINDS, kinds

from cdcd_video.diffusion.process import DiscreteProcess
from cdcd_video.diffusion.vq_diffusion import MaskAndReplace, cdcd_chain, cdcd_constants


class Written(NamedTuple):
    """A chain, and `steps` (S+1, K+1, K+1): q(x_i = column | x_(i-1) = row), the identity at i = 0."""

    chain: MaskAndReplace
    steps: Tensor

    def jump(self, i: int, j: int) -> Tensor:
        """(K+1, K+1): q(x_j | x_i), as the product of the steps between."""
        product = self.steps[0]
        for step in self.steps[i + 1 : j + 1]:
            product = product @ step
        return product


def step_matrices(keep: Tensor, replace: Tensor, mask: Tensor, num_codes: int) -> Tensor:
    """(S+1, K+1, K+1) from the probabilities of each step: of keeping, of each code instead, of [MASK]."""
    steps = torch.zeros(len(keep) + 1, num_codes + 1, num_codes + 1, dtype=torch.float64)
    eye = torch.eye(num_codes, dtype=torch.float64)
    steps[1:, :-1, :-1] = keep[:, None, None] * eye + replace[:, None, None]
    steps[1:, :-1, -1] = mask[:, None]
    steps[:, -1, -1] = 1.0
    steps[0, :-1, :-1] = eye
    return steps


WRITTEN = ("cdcd", "much replaced", "all masked at last", "never replaced")
"""CDCD's chain, in which 1e-6 is replaced, and others that hide nothing behind so small a number."""
CHAINS = (*KINDS, *WRITTEN)


def chain_of(name: str, num_codes: int, num_steps: int) -> DiscreteProcess:
    """The chain of that name in `CHAINS`. Times i / S suit them all."""
    if name in KINDS:
        return kinds(num_codes)[name]
    if name == "cdcd":
        return cdcd_chain(num_codes, num_steps)
    keep, _, mask = _single_steps(name, num_codes, num_steps)
    first = torch.ones(1, dtype=torch.float64)
    kept, code = (torch.cat((first, stays.cumprod(0))) for stays in (keep, 1.0 - mask))
    has_uniform = name != "never replaced"
    return MaskAndReplace(num_codes, kept, code - kept if has_uniform else torch.zeros_like(kept))


def written(name: str, num_codes: int, num_steps: int) -> Written:
    """The chain of that name in `WRITTEN`, with its matrices."""
    steps = step_matrices(*_single_steps(name, num_codes, num_steps), num_codes)
    return Written(chain_of(name, num_codes, num_steps), steps)


def _single_steps(name: str, num_codes: int, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """(S,) each: keep, replace by one given code, mask."""
    if name == "cdcd":
        constants = cdcd_constants(num_codes, num_steps)
        return constants.keep, constants.replace, constants.mask
    touched, masked = torch.rand(2, num_steps, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    touched = 0.1 + 0.4 * touched  # that a code is not kept at a step; of this, so much is masked:
    masked = torch.ones_like(masked) if name == "never replaced" else 0.2 + 0.5 * masked
    if name == "all masked at last":
        touched[-1] = masked[-1] = 1.0
    return 1.0 - touched, touched * (1.0 - masked) / num_codes, touched * masked


def numbers(shared_dir: Path, name: str) -> dict[str, Tensor]:
    """What running upstream gave; `fixtures/README.md` there says what is what."""
    with np.load(shared_dir / "fixtures" / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
