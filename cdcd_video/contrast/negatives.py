"""Codes that are like the true ones but wrong: chunks of the same frame in another order, and other samples' frames."""

import torch
from jaxtyping import Int64
from torch import Tensor

from cdcd_video.diffusion.upstream_quirks import RIGHT, Quirks


def chunk_orders(
    batch: int, num_negatives: int, num_chunks: int, generator: torch.Generator, quirks: Quirks = RIGHT
) -> Int64[Tensor, "B M chunks"]:
    """Samples orders of chunks, none of which is the identity.

    Args:
      num_negatives: M, orders per sample.
      num_chunks: at least 2.
      generator: source of randomness; the result lies on its device.
      quirks: with `one_order_for_all`, the samples share their M orders, and an order may be the identity.

    Raises:
      ValueError: if there are fewer than two chunks.
    """
    if num_chunks < 2:
        raise ValueError(f"reordering needs at least two chunks, not {num_chunks}")
    device = generator.device
    if quirks.one_order_for_all:
        order = torch.rand(1, num_negatives, num_chunks, generator=generator, device=device).argsort(-1)
        return order.expand(batch, -1, -1)
    order = torch.rand(batch, num_negatives, num_chunks, generator=generator, device=device).argsort(-1)
    # The identity, which has probability 1 / num_chunks!, is rotated by one place.
    identity = torch.arange(num_chunks, device=device)
    return torch.where((order == identity).all(-1, keepdim=True), identity.roll(-1), order)


def reordered(
    codes: Int64[Tensor, "B N"], orders: Int64[Tensor, "B M chunks"], quirks: Quirks = RIGHT
) -> Int64[Tensor, "B M N"]:
    """The codes with their chunks in other orders: CDCD's intra negatives [CDCD].

    Args:
      orders: which chunk comes at each place.
      quirks: with `tail_stays`, chunks are of equal length and what is left over at the end stays where it is.

    Raises:
      ValueError: if there are more chunks than tokens: an order of empty chunks moves nothing.
    """
    num_tokens, num_chunks = codes.shape[1], orders.shape[-1]
    if num_tokens < num_chunks:
        raise ValueError(f"{num_tokens} tokens do not make {num_chunks} chunks")
    length, rest = divmod(num_tokens, num_chunks)
    if rest == 0 or quirks.tail_stays:
        chunks = codes[:, : num_chunks * length].unflatten(1, (num_chunks, length))
        moved = chunks[torch.arange(len(codes), device=codes.device)[:, None, None], orders].flatten(2)
        tail = codes[:, None, num_chunks * length :].expand(-1, orders.shape[1], -1)
        return torch.cat((moved, tail), -1) if rest else moved
    # Token p belongs to chunk floor(p chunks / N). A stable sort by the new place of each token's chunk moves them all.
    chunk = torch.arange(num_tokens, device=codes.device) * num_chunks // num_tokens
    index = orders.argsort(-1)[..., chunk].argsort(dim=-1, stable=True)
    return codes.unsqueeze(1).expand(-1, orders.shape[1], -1).gather(-1, index)


def shifted(codes: Int64[Tensor, "B N"], num_chunks: int, quirks: Quirks = RIGHT) -> Int64[Tensor, "B 1 N"]:
    """The codes with every chunk one place earlier, the first one last: CDCD's mode `shift`.

    Args:
      num_chunks: at least 2.
      quirks: `shift_repeats_first` and `tail_stays` are used.
    """
    order = torch.arange(num_chunks, device=codes.device).roll(-1)
    if quirks.shift_repeats_first:
        order[-2:] = 0
    return reordered(codes, order.expand(len(codes), 1, -1), quirks)


def others(codes: Int64[Tensor, "B N"], num_negatives: int) -> Int64[Tensor, "B M N"]:
    """The codes of the next M samples of the batch, cyclically: CDCD's inter negatives [CDCD].

    Raises:
      ValueError: if the batch has fewer other samples.
    """
    if not 1 <= num_negatives < len(codes):
        raise ValueError(f"a batch of {len(codes)} has {len(codes) - 1} other samples, not {num_negatives}")
    return torch.stack([codes.roll(-step, 0) for step in range(1, num_negatives + 1)], 1)
