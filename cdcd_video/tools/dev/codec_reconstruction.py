"""Evaluates the reconstruction of codecs on held-out clips: PSNR and SSIM with intervals, and a picture.

Each run needs its stage `codec` only; the others are compared with the first, clip by clip. Frames come from the longest shot of
each clip: at 1/4 and 9/16 of its length, and its last; the decoder is given the first. The reference repeats the first frame.
Prints a table, writes `reconstruct.jsonl` and `reconstruct.png`.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import UserError
from cdcd_video.storage.free_name import chosen_folder

if TYPE_CHECKING:
    from cdcd_video.data.store import Clips
    from cdcd_video.training.latent_encoder import FrameEncoder

NUM_PICTURED = 6
"""Number of clips in the picture."""
METRICS = ("psnr_db", "ssim")


def main() -> int:
    parser = OptionParser(
        prog="python -m cdcd_video.tools.reconstruct",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, model folders or shipped models")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="a prepared folder")
    parser.add_argument("--split", default="val", help="split of the folder (default: %(default)s)")
    parser.add_argument("--num-clips", type=int, default=32, metavar="V", help="number of clips (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default: out/reconstruct, or the next free name)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    args = parser.parse_args()
    if args.num_clips < 1:
        raise UserError("--num-clips must be at least 1")
    with chosen_folder(args.out, Path("out/reconstruct")) as args.out:
        measure(args)
    return 0


def measure(args: argparse.Namespace) -> None:
    """Runs the evaluation and writes to the folder `args.out`."""
    from cdcd_video.data.store import StoredClips
    from cdcd_video.engine import runtime
    from cdcd_video.training.latent_encoder import open_frame_encoder
    from cdcd_video.video import contact_sheet

    clips = StoredClips(args.data, args.split)
    numbers = range(min(args.num_clips, len(clips)))
    device = runtime.device_for(args.device)
    truth, again = _frames(clips, numbers), [np.repeat(_first(clips, n)[None], 3, axis=0) for n in numbers]
    pictured: dict[str, list[np.ndarray]] = {"true": truth, "the first frame again": again}
    rows = [{"run": "the first frame again", "clips": len(numbers), **scored(again, truth)}]
    others: list[np.ndarray] | None = None
    for run in args.runs:
        frame_encoder = open_frame_encoder(run, device)
        if frame_encoder.size_px != clips.size_px:
            raise UserError(
                f"{run} has frames of {frame_encoder.size_px} px, but {args.data} of {clips.size_px} px; prepare the clips with"
                f" --size-px {frame_encoder.size_px}"
            )
        pictured[Path(run).name] = decoded(frame_encoder, clips, numbers, truth)
        made = pictured[Path(run).name]
        rows.append({"run": run, "clips": len(numbers), **_facts(frame_encoder), **scored(made, truth, others)})
        others = others or made
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "reconstruct.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    few = range(min(NUM_PICTURED, len(numbers)))
    pictures = [np.concatenate([pictured[name][number] for number in few]) for name in pictured]
    contact_sheet(pictures, args.out / "reconstruct.png", list(pictured))
    sys.stdout.write(table(rows) + f"\n{args.out / 'reconstruct.jsonl'}\n{args.out / 'reconstruct.png'}\n")


def scored(
    made: list[np.ndarray], truth: list[np.ndarray], others: list[np.ndarray] | None = None
) -> dict[str, list[float]]:
    """PSNR in dB and SSIM over all frames, each with the ends of its interval over clips.

    Args:
      made: uint8 (F, H, W, 3), a clip each.
      truth: likewise.
      others: reconstructions by another codec.

    Returns:
      By metric: value, low, high; and with `others` by `METRIC_more` the same of the difference, clip by clip.
    """
    from cdcd_video.metrics.fidelity import psnr, ssim
    from cdcd_video.metrics.statistics.intervals import bootstrap

    def totals(frames: list[np.ndarray]) -> np.ndarray:
        return np.array([[psnr(a, b).sum(), ssim(a, b).sum()] for a, b in zip(frames, truth, strict=True)])

    weights = np.array([[len(b)] * 2 for b in truth], dtype=np.float64)
    found = {"": totals(made)} | ({} if others is None else {"_more": totals(made) - totals(others)})
    return {
        f"{name}{suffix}": [round(float(end), 4) for end in three]
        for suffix, sums in found.items()
        for name, three in zip(METRICS, np.stack(bootstrap(sums, weights), axis=1), strict=True)
    }


def decoded(frame_encoder: "FrameEncoder", clips: "Clips", numbers: range, truth: list[np.ndarray]) -> list[np.ndarray]:
    """The frames encoded and decoded, given the first frame of each clip; uint8."""
    import torch

    def tensor(frames: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(frames.copy()).to(frame_encoder.device).permute(0, 3, 1, 2).float() / 255

    made = []
    with torch.no_grad():
        for number, frames in zip(numbers, truth, strict=True):
            codes = frame_encoder.codec.encode(
                frame_encoder.clip.encode_image(
                    tensor(frames),
                    frame_encoder.codec.cfg.layers,
                    frame_encoder.codec.grid_of(*tensor(frames).shape[-2:]),
                ).patches
            )
            start = tensor(_first(clips, number)[None]).expand(len(frames), -1, -1, -1)
            reconstructed = frame_encoder.codec.decode(codes, start)
            made.append(reconstructed.float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
    return made


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown; differences are to the first run."""
    lines = [
        "| run | layers | N | K | bits per frame | start | PSNR dB | difference | SSIM | difference |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        facts = [str(row.get(name, "")) for name in ("layers", "N", "K", "bits", "sees_start")]
        cells = [
            _interval(row.get(f"{name}{suffix}"), digits, "+" if suffix else "")
            for name, digits in zip(METRICS, (2, 3), strict=True)
            for suffix in ("", "_more")
        ]
        lines.append(f"| {Path(row['run']).name} | {' | '.join([*facts, *cells])} |")
    stand_ins = {row["clip_stand_in"] for row in rows if row.get("clip_stand_in")}
    return "\n".join([*lines, *sorted(stand_ins)])


def _interval(three: list[float] | None, digits: int, sign: str) -> str:
    if three is None:
        return ""
    value, low, high = (f"{end:{sign}.{digits}f}" for end in three)
    return f"{value} [{low} to {high}]"


def _facts(frame_encoder: "FrameEncoder") -> dict[str, Any]:
    from cdcd_video.networks.clip import STAND_IN

    codec = frame_encoder.codec
    facts = {"layers": list(codec.cfg.layers), "N": codec.num_tokens, "K": codec.num_codes}
    facts |= {"bits": round(codec.num_tokens * math.log2(codec.num_codes)), "sees_start": codec.decoder.uses_start}
    facts |= {"clip_sha256": frame_encoder.clip.digest}
    return facts | ({STAND_IN: frame_encoder.clip.stand_in} if frame_encoder.clip.stand_in else {})


def _frames(clips: "Clips", numbers: range) -> list[np.ndarray]:
    """Three frames of the longest shot of each clip."""
    from cdcd_video.data.shots import LongestShots

    shots = LongestShots(clips)
    lengths = [shots.num_frames(number) for number in numbers]
    return [
        shots.frames(n, [length // 4, length * 9 // 16, length - 1]) for n, length in zip(numbers, lengths, strict=True)
    ]


def _first(clips: "Clips", number: int) -> np.ndarray:
    from cdcd_video.data.shots import LongestShots

    return LongestShots(clips).frames(number, [0])[0]
