"""`bench loss`: cost of CDCD's training loss, forward and backward to given logits, ours and another implementation."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from cdcd_video.errors import UserError
from cdcd_video.tools.bench.upstream_shapes import SHAPES

SIDE = "cdcd_video.tools.bench.loss_side"
OURS_PER_OTHER = 10
"""Timed calls of ours per call of the other side: ours takes milliseconds, the other side seconds."""
WARM_UP = 3
"""Warm-up calls of ours; the other side has one, after the call whose memory is measured."""
BARS = {"ratio": 200, "ratio_kept_pages": 120, "memory_ratio": 25, "negatives_ratio": 1.3}
"""Targets of ours against upstream at shape cub on a CPU, with 10 and 100 negatives."""
FOOTNOTES = (
    "Times are medians after warm-up. CPU time is that of the process, kernel included; ratios are of CPU time.",
    "Default allocator: large blocks are returned to the system and page-faulted again. Pages kept: they are reused.",
    "Memory: peak of the first full call, with the gradient of the logits, above the level before it.",
    "Many negatives against few: both are ours, in turns in one process.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench loss`."""
    sizes = "; ".join(f"{name}: {shape}" for name, shape in SHAPES.items())
    parser.add_argument("--shape", choices=tuple(SHAPES), default="cub", help=sizes)
    parser.add_argument(
        "--negatives",
        type=int,
        nargs=2,
        default=(10, 100),
        metavar=("FEW", "MANY"),
        help="negatives per sample: FEW on both sides, and MANY against FEW on ours (default: 10 100)",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed calls of the other side; ours has ten times as many"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; GPUs are timed by wall-clock time")


def compare(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures both sides, each in single-threaded processes of its own.

    Args:
      args: of `add_arguments`, and `upstream`, a folder or None.
      say: receives progress messages.

    Returns:
      The results for the JSON file. Ratios of time are the other side over ours, the ratio
      of memory is ours over the other side, that of negatives is MANY over FEW.

    Raises:
      UserError: an option is invalid, the device is missing, or a measurement failed.
    """
    few, many = args.negatives
    if few < 1 or many < 1 or args.repeats < 1:
        raise UserError("--negatives and --repeats must be at least 1")

    from cdcd_video.engine.runtime import device_for
    from cdcd_video.tools.bench.side_process import can_keep_pages, checkout, clock_of, in_child

    device = device_for(args.device)
    clock = clock_of(device)
    commit = checkout(args.upstream, say)
    other_side = "upstream" if commit else "plain"
    request = {"shape": args.shape, "upstream": str(args.upstream) if commit else None, "device": str(device)}
    ours = request | {"side": "ours", "repeats": args.repeats * OURS_PER_OTHER, "warm_up": WARM_UP}
    other = request | {"side": other_side, "repeats": args.repeats, "warm_up": 1}

    def run(side: dict[str, Any], *negatives: int, keep_pages: bool = False) -> dict[str, Any]:
        pages = ", pages kept" if keep_pages else ""
        say(f"measuring {side['side']} with {' and '.join(map(str, negatives))} negatives{pages} ...")
        return in_child(SIDE, side | {"negatives": negatives}, keep_pages)

    figures = {"ours": run(ours, few), "other": run(other, few)}
    in_turns = run(ours, few, many)["times"]
    result = {
        "work": "loss",
        "shape": {"name": args.shape, **asdict(SHAPES[args.shape])},
        "negatives": few,
        "many_negatives": many,
        "device": str(device),
        "clock": clock,
        "other_is": other_side,
        "upstream_commit": commit,
        **{name: side["times"][0] | {"peak_bytes": side["peak_bytes"]} for name, side in figures.items()},
        "many": in_turns[1],
    }
    ratios = {"ratio": result["other"][clock] / result["ours"][clock], "ratio_kept_pages": None}
    if device.type == "cpu" and can_keep_pages():
        for name, side in (("ours", ours), ("other", other)):
            result[name]["kept_pages"] = run(side, few, keep_pages=True)["times"][0]
        ratios["ratio_kept_pages"] = result["other"]["kept_pages"][clock] / result["ours"]["kept_pages"][clock]
    peaks = [side["peak_bytes"] for side in figures.values()]
    ratios["memory_ratio"] = peaks[0] / peaks[1] if all(peaks) else None  # a tiny shape needs no new page
    ratios["negatives_ratio"] = in_turns[1][clock] / in_turns[0][clock]
    return result | ratios


def table(result: dict[str, Any]) -> list[str]:
    """The results as lines to print."""
    ours, other, clock = result["ours"], result["other"], result["clock"]
    shape, few, many = result["shape"], result["negatives"], result["many_negatives"]
    case = (result["other_is"], shape["name"], few, many, result["device"])
    targets = {name: f"target: at least {bar}x" for name, bar in BARS.items()}
    targets |= {"memory_ratio": f"target: at most 1/{BARS['memory_ratio']}"}
    targets |= {"negatives_ratio": f"target: at most {BARS['negatives_ratio']}x"}
    if case != ("upstream", "cub", 10, 100, "cpu"):
        targets = dict.fromkeys(BARS, "")
    clock_name = "wall" if clock == "wall_s" else "CPU"

    def times(name: str, one: dict[str, Any], two: dict[str, Any], key: str, bar: str = "") -> str:
        return _row(name, _seconds(one[key]), _seconds(two[key]), f"{two[key] / one[key]:.1f}x", bar)

    lines = [
        f"CDCD's loss, forward + backward to given logits, with sampling of x_t and {few} negatives",
        f"{result['device']}, one thread; shape {shape['name']}: {SHAPES[shape['name']]}; "
        f"{ours['n']} timed calls of ours, {other['n']} of the other side",
        "",
        _row("", "ours", {"upstream": "upstream", "plain": "plain reference"}[result["other_is"]], "ratio"),
        times(f"{clock_name} time, default allocator", ours, other, clock, targets["ratio"]),
    ]
    if result["ratio_kept_pages"]:
        kept = ours["kept_pages"], other["kept_pages"]
        lines.append(times(f"{clock_name} time, pages kept", *kept, clock, targets["ratio_kept_pages"]))
    if clock == "cpu_s":
        lines.append(times("wall time, default allocator", ours, other, "wall_s"))
        shares = (f"{one['system_s'] / one['cpu_s']:.0%}" for one in (ours, other))
        lines.append(_row("CPU time in the kernel, default", *shares))
    peaks = (f"{one['peak_bytes'] / 1e6:,.1f} MB" for one in (ours, other))
    memory = f"1/{1 / result['memory_ratio']:.1f}" if result["memory_ratio"] else "-"
    lines.append(_row("peak memory", *peaks, memory, targets["memory_ratio"]))
    slower = f"{result['negatives_ratio']:.2f}x"
    lines.append(
        _row(f"with {many} negatives", _seconds(result["many"][clock]), "", slower, targets["negatives_ratio"])
    )
    return [*lines, "", *FOOTNOTES]


def _row(name: str, ours: str, other: str, ratio: str = "", target: str = "") -> str:
    return f"{name:<32}{ours:>12}{other:>18}{ratio:>10}   {target}".rstrip()


def _seconds(value: float) -> str:
    return f"{value:,.2f} s" if value >= 1 else f"{value * 1e3:,.1f} ms"
