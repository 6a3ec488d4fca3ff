"""`bench train`: time, memory and utilisation of a whole training step at upstream's CUB shape, ours and another's."""

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from cdcd_video.errors import UserError
from cdcd_video.tools.bench.upstream_shapes import SHAPES, TRUNKS

SIDE = "cdcd_video.tools.bench.train_side"
OURS_PER_OTHER = 2
"""Timed steps of ours per step of the other side. The step whose memory is measured comes first, as warm-up."""
BARS = {
    ("fp32", True): {"ratio": 4.5, "ratio_kept_pages": 2.0, "memory_ratio": 0.25},
    ("bf16", True): {"ratio": 8.0, "ratio_kept_pages": 4.0, "memory_ratio": 0.25},
    ("fp32", False): {"ratio": 2.7, "ratio_kept_pages": 1.5, "memory_ratio": 0.25},
}
"""Targets of ours against upstream at shape cub on a CPU with the network of equal size, by precision and contrast. The target
utilisation of every configuration is `SHARE_BAR` of the matrix rate."""
SHARE_BAR = 0.6
FOOTNOTES = (
    "A step samples t, x_t and negatives, runs forward and backward, clips, and updates weights (AdamW) and average.",
    "equal: our block with an MLP of upstream's weights and FLOPs; own: that of our configs, four times the width.",
    "Times are medians of CPU time of the process, kernel included; ratios are of those. kept: an allocator that keeps its",
    "pages, both sides. Memory: peak of the first step above the level before it, with gradients and the state of AdamW.",
    "FLOPs are those of the mathematics, by formula. mm: fraction of the rate of torch.mm on 2048 x 2048 in the precision of",
    "the step. best: fraction of the fastest product here in that precision (oneDNN's, where torch.mm uses another).",
)


@dataclass(frozen=True)
class Case:
    """One configuration of ours."""

    name: str
    precision: str
    has_contrast: bool
    is_equal: bool = True
    heads: int | None = None
    checkpoint_activations: bool = False


CASES = (
    Case("fp32", "fp32", True),
    Case("bf16", "bf16", True),
    Case("fp32, no contrast", "fp32", False),
    Case("bf16, no contrast", "bf16", False),
    Case("bf16, own MLP", "bf16", True, is_equal=False),
    Case("bf16, heads of 32", "bf16", True, heads=32),
    Case("bf16, checkpointed", "bf16", True, checkpoint_activations=True),
)
"""The first is `ours` in the JSON file. `heads` is the width of a head here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench train`."""
    sizes = "; ".join(f"{name}: {shape}; {TRUNKS[name]}" for name, shape in SHAPES.items())
    parser.add_argument("--shape", choices=tuple(SHAPES), default="cub", help=sizes)
    parser.add_argument("--negatives", type=int, default=10, help="negatives per sample, on both sides")
    parser.add_argument(
        "--repeats",
        type=int,
        default=2,
        help="timed steps of the other side (default: %(default)s); ours has twice as many",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both sides (default: 1)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; GPUs are timed by wall-clock time")
    parser.add_argument(
        "--cases",
        nargs="*",
        choices=[case.name for case in CASES],
        help="cases to measure beside the first (default: all)",
    )


def compare(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures both sides, each configuration in processes of its own.

    Args:
      args: of `add_arguments`, and `upstream`, a folder or None.
      say: receives progress messages.

    Returns:
      The results for the JSON file: `ours` (the first of `CASES`), `other`, their ratios, and
      every configuration with its ratios to the other side with or without negatives. Ratios of time are the other side
      over ours, the ratio of memory is ours over the other side.

    Raises:
      UserError: an option is invalid, the device is missing, or a measurement failed.
    """
    if args.negatives < 1 or args.repeats < 1 or args.threads < 1:
        raise UserError("--negatives, --repeats and --threads must be at least 1")

    from cdcd_video.engine.runtime import device_for
    from cdcd_video.tools.bench.side_process import can_keep_pages, checkout, clock_of, in_child

    device = device_for(args.device)
    clock = clock_of(device)
    commit = checkout(args.upstream, say)
    keeps = device.type == "cpu" and can_keep_pages()
    trunk = TRUNKS[args.shape]
    request = {
        "shape": args.shape,
        "upstream": str(args.upstream) if commit else None,
        "device": str(device),
        "threads": args.threads,
        "warm_up": 0,
    }

    def run(name: str, side: dict[str, Any]) -> dict[str, Any]:
        say(f"measuring {name} ...")
        found = in_child(SIDE, request | side)
        measured = found["times"] | {key: found[key] for key in found if key not in ("times", "product_rate")}
        measured |= {"product_rate": found["product_rate"], "kept_pages": None}
        if keeps:
            say(f"measuring {name}, pages kept ...")
            try:
                kept = in_child(SIDE, request | side | {"profile": False}, keep_pages=True)
                measured["kept_pages"] = kept["times"] | {"product_rate": kept["product_rate"]}
            except UserError as error:  # upstream's large temporaries, never freed, may exceed the memory
                say(f"warning: {error}; no results with kept pages")
        return measured

    def other(negatives: int) -> dict[str, Any]:
        name = f"{'upstream' if commit else 'the plain reference'}{'' if negatives else ', no contrast'}"
        side = _side("upstream" if commit else "plain", "fp32", negatives, args.repeats)
        return run(name, side | {"mlp": trunk.equal_mlp})

    chosen = [case for case in CASES if case is CASES[0] or not args.cases or case.name in args.cases]
    found = {}
    for case in chosen:
        side = _side("ours", case.precision, args.negatives * case.has_contrast, args.repeats * OURS_PER_OTHER)
        side |= {"mlp": trunk.equal_mlp if case.is_equal else None, "profile": case.checkpoint_activations is False}
        side |= {"heads": trunk.width // case.heads if case.heads else None}
        found[case.name] = run(f"ours, {case.name}", side | {"checkpoint_activations": case.checkpoint_activations})
    others = {
        negatives: other(negatives) for negatives in sorted({args.negatives * c.has_contrast for c in chosen})[::-1]
    }
    rows = []
    for case in chosen:
        beside = others[args.negatives * case.has_contrast]
        facts = asdict(case) | {"heads": trunk.width // case.heads if case.heads else trunk.num_heads}
        rows.append(facts | _used(found[case.name], clock) | _ratios(found[case.name], beside, clock))
    return {
        "work": "train",
        "shape": {"name": args.shape, **asdict(SHAPES[args.shape]), "trunk": asdict(trunk)},
        "negatives": args.negatives,
        "device": str(device),
        "clock": clock,
        "cores": os.cpu_count(),
        "threads": args.threads,
        "other_is": "upstream" if commit else "plain",
        "upstream_commit": commit,
        "ours": rows[0],
        "other": _used(others[args.negatives], clock),
        "other_without_contrast": _used(others[0], clock) if 0 in others else None,
        **{name: rows[0][name] for name in ("ratio", "ratio_kept_pages", "memory_ratio")},
        "configurations": rows,
    }


def _side(name: str, precision: str, negatives: int, repeats: int) -> dict[str, Any]:
    side = {"side": name, "precision": precision, "negatives": negatives, "repeats": repeats, "heads": None}
    return side | {"checkpoint_activations": False, "profile": False}


def _used(found: dict[str, Any], clock: str) -> dict[str, Any]:
    """A measurement with its fractions of the matrix rate."""
    unit = clock.removesuffix("_s")

    def shares(times: dict[str, Any]) -> dict[str, float]:
        rate = found["flops"] / times[clock]
        return {f"share_{name}": rate / times["product_rate"][name][unit] for name in ("mm", "best")}

    kept = found["kept_pages"]
    return found | shares(found) | {"kept_pages": kept and kept | shares(kept)}


def _ratios(ours: dict[str, Any], other: dict[str, Any], clock: str) -> dict[str, float | None]:
    kept = ours["kept_pages"], other["kept_pages"]
    has_peaks = ours["peak_bytes"] and other["peak_bytes"]  # a tiny shape needs no new page
    return {
        "ratio": other[clock] / ours[clock],
        "ratio_kept_pages": kept[1][clock] / kept[0][clock] if all(kept) else None,
        "memory_ratio": ours["peak_bytes"] / other["peak_bytes"] if has_peaks else None,
    }


def table(result: dict[str, Any]) -> list[str]:
    """The results as lines to print."""
    clock, name, trunk = result["clock"], result["shape"]["name"], TRUNKS[result["shape"]["name"]]
    is_case = (result["other_is"], name, result["negatives"], result["device"]) == ("upstream", "cub", 10, "cpu")
    lines = [
        f"A training step with {result['negatives']} negatives; {SHAPES[name]}; {trunk}",
        f"{result['device']}, {result['threads']} thread(s); {result['ours']['n']} timed steps of each of ours, "
        f"{result['other']['n']} of the other side",
        "",
        f"{'':<22}{'default':>9}{'kept':>9}{'memory':>10}{'ratio':>8}{'kept':>7}{'mem':>8}{'mm':>7}{'best':>7}",
    ]
    rows = [(row["name"], row) for row in result["configurations"]]
    others = [("", result["other"]), (", no contrast", result["other_without_contrast"])]
    title = {"upstream": "upstream", "plain": "plain reference"}[result["other_is"]]
    for label, row in rows + [(title + more, one) for more, one in others if one]:
        kept, memory = row["kept_pages"], row.get("memory_ratio")
        times = [f"{row[clock]:.2f} s", f"{kept[clock]:.2f} s" if kept else "-", f"{row['peak_bytes'] / 1e6:,.0f} MB"]
        ratios = [f"{row[key]:.2f}" if row.get(key) else "" for key in ("ratio", "ratio_kept_pages")]
        shares = [f"{row[key]:.0%}" for key in ("share_mm", "share_best")]
        columns = [*times, *ratios, f"1/{1 / memory:.1f}" if memory else "", *shares]
        widths = (9, 9, 10, 8, 7, 8, 7, 7)
        cells = "".join(f"{text:>{width}}" for text, width in zip(columns, widths, strict=True))
        target = _target(row) if is_case and "ratio" in row else ""
        lines.append(f"{label:<22}{cells}   {target}".rstrip())
    for row in result["configurations"]:
        if row.get("profile"):
            parts = ", ".join(f"{part['name']} {part['share']:.0%}" for part in row["profile"][:8])
            lines += ["", f"{row['name']}: {parts}"]
    return [*lines, "", *FOOTNOTES]


def _target(row: dict[str, Any]) -> str:
    """The targets of a configuration as text."""
    bars = BARS.get((row["precision"], row["has_contrast"]))
    if bars is None or not row["is_equal"] or row["checkpoint_activations"]:
        return ""
    return f"targets: {bars['ratio']}, {bars['ratio_kept_pages']}, 1/{1 / bars['memory_ratio']:.0f}, {SHARE_BAR:.0%}"
