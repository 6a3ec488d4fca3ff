"""`bench attention`: implementations of attention on a CPU, forward and backward, at the shapes of our models."""

import argparse
from collections.abc import Callable
from typing import Any

from cdcd_video.errors import UserError

SHAPES = {
    "cub": (4, 16, 1024, 1024, 12),
    "cub, words": (4, 16, 1024, 77, 12),
    "heads of 32": (4, 6, 1024, 1024, 32),
    "i2v_msrvtt": (4, 12, 196, 196, 64),
    "sprites": (32, 4, 64, 64, 32),
    "tiny": (2, 2, 16, 5, 16),
}
"""Batch, heads, queries, keys, channels of a head."""
FOOTNOTES = (
    "CPU milliseconds, medians of the repeats, implementations in turns; -: not supported at this shape. rate: GFLOP/s of the",
    "compiled one, for the two products forward and the four backward; recomputation is not counted.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument(
        "--shapes", nargs="*", choices=tuple(SHAPES), default=tuple(SHAPES), help="shapes to measure (default: all)"
    )
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")


def compare(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures every implementation at every shape.

    Args:
      args: of `add_arguments`.
      say: receives progress messages.

    Returns:
      The results for the JSON file: `rows`, one for each shape and precision, with
      `forward_s` and `backward_s` by implementation (None where it is not supported).

    Raises:
      UserError: an option is invalid.
    """
    if args.repeats < 1 or args.threads < 1:
        raise UserError("--repeats and --threads must be at least 1")
    import torch

    torch.set_num_threads(args.threads)
    rows = []
    for name in args.shapes:
        for kind in (torch.float32, torch.bfloat16):
            say(f"measuring {name} in {str(kind).removeprefix('torch.')} ...")
            rows.append({"shape": name, "sizes": SHAPES[name], **_measured(SHAPES[name], kind, args.repeats)})
    return {"work": "attention", "rows": rows, "repeats": args.repeats, "threads": args.threads}


def _measured(sizes: tuple[int, ...], kind: Any, repeats: int) -> dict[str, Any]:
    import torch

    from cdcd_video.engine.runtime import generator
    from cdcd_video.kernels import tiled
    from cdcd_video.tools.bench.side_process import measure

    batch, heads, queries, keys, width = sizes
    draws = generator("bench", 2)
    q, k, v, onto = (
        torch.randn(batch, num, heads, width, generator=draws).to(kind).transpose(1, 2)
        for num in (queries, keys, keys, queries)
    )
    given = [x.requires_grad_() for x in (q, k, v)]
    ways = {
        "compiled": tiled.attention if tiled.serves(q, k) else None,
        "torch, fused": torch.nn.functional.scaled_dot_product_attention,
        "torch, written out": _written_out,
    }
    serving = {name: way for name, way in ways.items() if way}
    outs = {name: way(*given) for name, way in serving.items()}
    calls = [
        call
        for name, way in serving.items()
        for call in (
            lambda way=way: way(*given),
            lambda out=outs[name]: torch.autograd.grad(out, given, onto, retain_graph=True),
        )
    ]
    times = [one["cpu_s"] for one in measure(calls, 2, repeats, torch.device("cpu"))]
    found = dict(zip(serving, zip(times[::2], times[1::2], strict=True), strict=True))
    return {
        "precision": str(kind).removeprefix("torch."),
        "flops_forward": 4 * batch * heads * queries * keys * width,
        "forward_s": {name: found[name][0] if name in found else None for name in ways},
        "backward_s": {name: found[name][1] if name in found else None for name in ways},
    }


def _written_out(q: Any, k: Any, v: Any) -> Any:
    return ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1) @ v


def table(result: dict[str, Any]) -> list[str]:
    """The results as lines to print."""
    ways = tuple(result["rows"][0]["forward_s"])
    lines = [
        f"Attention, {result['threads']} thread(s), {result['repeats']} repeats: ms forward / backward",
        "",
        f"{'':<13}{'batch, heads, queries, keys, channels':<40}{'':<10}{''.join(f'{way:>20}' for way in ways)}{'rate':>12}",
    ]
    for row in result["rows"]:
        cells = [
            f"{1e3 * row['forward_s'][way]:.2f} / {1e3 * row['backward_s'][way]:.2f}" if row["forward_s"][way] else "-"
            for way in ways
        ]
        first, second = row["forward_s"][ways[0]], row["backward_s"][ways[0]]
        flops = row["flops_forward"] / 1e9
        rate = f"{flops / first:.0f} / {2 * flops / second:.0f}" if first else "-"
        sizes = ", ".join(f"{size:,}" for size in row["sizes"])
        lines.append(
            f"{row['shape']:<13}{sizes:<40}{row['precision']:<10}{''.join(f'{cell:>20}' for cell in cells)}{rate:>12}"
        )
    return [*lines, "", *FOOTNOTES]
