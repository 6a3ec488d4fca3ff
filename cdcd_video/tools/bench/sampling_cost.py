"""`bench draw`: cost of sampling a frame by number of steps, ours and another's, and quality by steps on sprites."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from cdcd_video.errors import UserError
from cdcd_video.tools.bench.upstream_shapes import SHAPES, TRUNKS

SIDE = "cdcd_video.tools.bench.sampling_side"
STEPS = (1, 2, 4, 8, 16, 32)
SHIPPED_STEPS = 80
"""Upstream's, of its models of images with text."""
BARS = {
    "ratio_at_equal_steps": 3.5,
    "ratio_at_equal_steps_truncated": 4.0,
    "ratio_of_defaults": 40,
    "ratio_of_defaults_kept_pages": 20,
}
"""Targets of ours against upstream at shape cub on a CPU."""
FOOTNOTES = (
    "Codes only, one frame, no guidance (upstream has none), fp32, without the image decoder, which is the same on both sides.",
    "Ours has the network of equal size (MLP with upstream's weights and FLOPs), and source and first frame as conditions.",
    "Times are medians of CPU time of the process. kept: an allocator that keeps its pages, both sides.",
    "Unless --whole, the time of upstream's 80 steps is 80 times that of one step in a run of --other-steps.",
    "Sprites: the shipped model, 16 frames; right: every object moves as the caption says, [95% interval over videos].",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench draw`."""
    parser.add_argument("--shape", choices=tuple(SHAPES), default="cub", help="sizes of the network; see bench train")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="reverse steps per frame of ours")
    parser.add_argument("--other-steps", type=int, default=4, help="reverse steps of the other side")
    parser.add_argument("--whole", action="store_true", help="also measure all 80 steps of upstream (minutes)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each")
    parser.add_argument("--videos", type=int, default=64, help="sprites videos evaluated per number of steps; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sprites videos")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; GPUs are timed by wall-clock time")


def compare(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures both sides in processes of their own, then the shipped model in this one.

    Args:
      args: of `add_arguments`, and `upstream`, a folder or None.
      say: receives progress messages.

    Returns:
      The results for the JSON file: `ours` by number of steps, `other` per step, their ratios
      (`ratio` is that at equal steps) and `sprites`.

    Raises:
      UserError: an option is invalid, the device is missing, or a measurement failed.
    """
    if min(args.steps) < 1 or args.other_steps < 2 or args.repeats < 1 or args.videos < 0 or args.seed < 0:
        raise UserError("--steps and --repeats must be at least 1, --other-steps 2, --videos and --seed 0")

    from cdcd_video.engine.runtime import device_for
    from cdcd_video.tools.bench.side_process import can_keep_pages, checkout, clock_of, in_child
    from cdcd_video.tools.bench.sprites_cost import curve

    device = device_for(args.device)
    clock = clock_of(device)
    commit = checkout(args.upstream, say)
    shape, trunk = SHAPES[args.shape], TRUNKS[args.shape]
    if max(*args.steps, args.other_steps) > shape.num_steps:
        raise UserError(f"--steps is above {shape.num_steps}, the steps of the chain of shape {args.shape}; lower it")
    request = {
        "shape": args.shape,
        "batch": 1,
        "mlp": trunk.equal_mlp,
        "upstream": str(args.upstream) if commit else None,
        "device": str(device),
        "precision": "fp32",
        "threads": 1,
        "warm_up": 0,
        "repeats": args.repeats,
    }
    pages = (False, True) if device.type == "cpu" and can_keep_pages() else (False,)

    def run(side: str, works: list[tuple[int, bool]], **changes: Any) -> dict[str, Any]:
        """Figures by allocator: the default one, and the one that keeps its pages."""
        found = {}
        for keep_pages in pages:
            say(f"measuring sampling by {side}{', pages kept' if keep_pages else ''} ...")
            part = in_child(SIDE, request | {"side": side, "works": works} | changes, keep_pages)
            found["kept_pages" if keep_pages else "default"] = part
        return found

    walks = sorted({*args.steps, args.other_steps})
    ours = run("ours", [(steps, False) for steps in walks] + [(args.other_steps, True)])
    side = "upstream" if commit else "plain"
    other = run(side, [(args.other_steps, False), (args.other_steps, True)])
    result = {
        "work": "draw",
        "shape": {"name": args.shape, **asdict(shape), "trunk": asdict(trunk)},
        "device": str(device),
        "clock": clock,
        "other_is": side,
        "upstream_commit": commit,
        "other_steps": args.other_steps,
        "sprites": curve(args.steps, args.videos, args.seed, args.repeats, str(device), say) if args.videos else [],
    }
    default = next((row["steps"] for row in result["sprites"] if row["is_default"]), min(args.steps))
    ratios: dict[str, float | None] = {}
    for pages_name, suffix in (("default", ""), ("kept_pages", "_kept_pages")):
        mine, theirs = ours.get(pages_name), other.get(pages_name)
        if mine is None:
            ratios |= {f"{name}{suffix}": None for name in ("ratio", "ratio_truncated", "ratio_of_defaults")}
            continue
        by_steps = {steps: mine["times"][i][clock] for i, steps in enumerate(walks)}
        plain, truncated = (one[clock] for one in theirs["times"])
        ratios[f"ratio{suffix}"] = plain / by_steps[args.other_steps]
        ratios[f"ratio_truncated{suffix}"] = truncated / mine["times"][-1][clock]
        ratios[f"ratio_of_defaults{suffix}"] = SHIPPED_STEPS * plain / args.other_steps / by_steps[default]
    if args.whole and commit:
        say(f"measuring upstream's {SHIPPED_STEPS} steps, whole ...")
        works = [(SHIPPED_STEPS, False), (SHIPPED_STEPS, True)]
        whole = in_child(SIDE, request | {"side": side, "works": works, "repeats": 1}, False)
        result["other_whole"] = {
            name: one[clock] for name, one in zip(("plain", "truncated"), whole["times"], strict=True)
        }
    peaks = ours["default"]["peak_bytes"], other["default"]["peak_bytes"]
    ratios["memory_ratio"] = peaks[0] / peaks[1] if all(peaks) else None
    return result | {"default_steps": default, "steps": walks, "ours": ours, "other": other} | ratios


def table(result: dict[str, Any]) -> list[str]:
    """The results as lines to print."""
    clock, name = result["clock"], result["shape"]["name"]
    title = {"upstream": "upstream", "plain": "plain reference"}[result["other_is"]]
    ours, other, at = result["ours"], result["other"], result["other_steps"]
    each = {pages: one["times"][0][clock] / at for pages, one in other.items()}
    lines = [
        f"One frame of {result['shape']['num_tokens']:,} codes; {TRUNKS[name]}; {result['device']}, one thread",
        "",
        f"{'steps':<12}{'ours':>12}{'kept':>12}{title:>18}{'kept':>12}",
    ]
    for number, steps in enumerate(result["steps"]):
        cells = [_seconds(one["times"][number][clock]) for one in ours.values()]
        cells += [""] * (2 - len(cells)) + [_seconds(steps * one) for one in each.values()]
        lines.append(f"{steps:<12}{cells[0]:>12}{cells[1]:>12}{cells[2]:>18}{(cells + [''])[3]:>12}")
    shipped = [_seconds(SHIPPED_STEPS * one) for one in each.values()] + [""]
    lines.append(f"{SHIPPED_STEPS:<12}{'':>24}{shipped[0]:>18}{shipped[1]:>12}")
    if "other_whole" in result:
        whole = " and truncated ".join(_seconds(value) for value in result["other_whole"].values())
        lines.append(f"upstream's {SHIPPED_STEPS} steps, measured whole: {whole}")
    is_case = (result["other_is"], name, result["device"]) == ("upstream", "cub", "cpu")
    sentences = {
        "ratio": (f"at {at} steps each", BARS["ratio_at_equal_steps"], None),
        "ratio_truncated": (f"at {at} steps each, truncated", BARS["ratio_at_equal_steps_truncated"], None),
        "ratio_of_defaults": (
            f"our {result['default_steps']} step(s) against {SHIPPED_STEPS}",
            BARS["ratio_of_defaults"],
            BARS["ratio_of_defaults_kept_pages"],
        ),
    }
    lines.append("")
    for key, (words, bar, kept_bar) in sentences.items():
        kept = result[f"{key}_kept_pages"]
        asked = f"   asked: {bar}" + (f" and {kept_bar}" if kept_bar else "") if is_case else ""
        lines.append(f"{words:<34}{result[key]:>8.2f}x" + (f", kept {kept:.2f}x" if kept else "") + asked)
    if result["memory_ratio"]:
        lines.append(f"{'peak memory of sampling':<34}{'1/' + format(1 / result['memory_ratio'], '.1f'):>9}")
    if result["sprites"]:
        head = (
            f"{'steps':<8}{'right':>24}{'n':>6}{'CPU ms/frame':>14}{'batched':>10}{'videos per s':>14}{'batched':>10}"
        )
        lines += ["", f"sprites, the shipped model, seed {result['sprites'][0]['seed']}", head]
    for row in result["sprites"]:
        right = "{value:.1%} [{low:.1%}, {high:.1%}]".format(**row["right"])
        alone, together = row["single"], row["together"]
        lines.append(
            f"{row['steps']:<8}{right:>24}{row['n']:>6}{alone['cpu_ms_per_frame']:>14.1f}"
            f"{together['cpu_ms_per_frame']:>10.1f}{alone['videos_per_cpu_s']:>14.2f}{together['videos_per_cpu_s']:>10.2f}"
            + ("   (the default)" if row["is_default"] else "")
        )
    return [*lines, "", *FOOTNOTES]


def _seconds(value: float) -> str:
    return f"{value:,.2f} s" if value >= 1 else f"{value * 1e3:,.1f} ms"
