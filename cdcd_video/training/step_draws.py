"""All random numbers of a training step, made in one place and one order, on which the result of a seed depends."""

import torch
from jaxtyping import Int
from torch import Tensor

from cdcd_video.config import DiffusionConfig, LossConfig
from cdcd_video.contrast.negatives import chunk_orders
from cdcd_video.contrast_terms import num_compared
from cdcd_video.diffusion.schedule import Times, sample_times
from cdcd_video.records import ALONE, CodePair, Collectives, RefineDraws, RowGenerator, StepDraws


def make_step_draws(
    batch: CodePair,
    cfg: DiffusionConfig,
    loss: LossConfig,
    generator: torch.Generator,
    reduce: Collectives = ALONE,
) -> StepDraws:
    """The random numbers of `objective.diffusion_objective`, for this process's rows of the batch.

    Args:
      cfg: length of the chain, and the share of full corruption.
      generator: the same in every process; on the batch's device.
    """
    rows = RowGenerator(generator, reduce)
    num, shape = reduce.num_all(len(batch.target)), batch.target.shape
    return StepDraws(
        times=Times(*map(reduce.own, sample_times(num, cfg.num_steps, generator, cfg.full_share))),
        source_noise=rows.rand(len(batch.target), 1),
        source_uniforms=rows.rand(*shape),
        corruption=rows.rand(2, *shape, dim=1),
        caption_uniforms=rows.rand(len(batch.target), 1),
        negative_orders=_negative_orders(num, loss, generator, reduce),
        shuffled_orders=_shuffled_orders(num, loss, generator, reduce),
    )


def make_refine_draws(batch: CodePair, generator: torch.Generator, reduce: Collectives = ALONE) -> RefineDraws:
    """The random numbers of `objective.with_own_source`; they come before those of the step."""
    rows, shape = RowGenerator(generator, reduce), batch.before.shape
    draws = [(rows.rand(2, *shape, dim=1), rows.rand(3, *shape, dim=1)) for _ in range(batch.generations)]
    start, sample = map(torch.stack, zip(*draws, strict=True))
    return RefineDraws(start=start, sample=sample, row_uniforms=rows.rand(len(batch.before)))


def _negative_orders(
    num: int, loss: LossConfig, generator: torch.Generator, reduce: Collectives
) -> Int[Tensor, "B M c"] | None:
    cfg = loss.cdcd
    if not cfg.intra or cfg.chunks == "shift":
        return None
    return reduce.own(chunk_orders(num, cfg.num_negatives, cfg.num_chunks, generator))


def _shuffled_orders(
    num: int, loss: LossConfig, generator: torch.Generator, reduce: Collectives
) -> Int[Tensor, "R M c"] | None:
    cfg = loss.contrast
    if not cfg.frame_frame or not cfg.shuffled:
        return None
    return reduce.own(chunk_orders(num_compared(cfg, num), cfg.shuffled, cfg.num_chunks, generator))
