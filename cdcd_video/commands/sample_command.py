"""Samples a video from an image and a caption, and writes a .json beside it that reproduces it."""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from cdcd_video import request
from cdcd_video.batch import batch_run
from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.sampling_params import add_flags
from cdcd_video.config.shipped_files import shipped_names
from cdcd_video.config.value_types import Fit
from cdcd_video.errors import note, notes_on_stderr

SCRIPT, IMAGE = "python inference.py", "examples/red-circle.png"
"""How the epilog spells the example in a checkout."""


def parse_arguments(arguments: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    """Reads the command line; see `main`."""
    spelled = f"{prog or SCRIPT} --frame {'red-circle' if prog else IMAGE}"
    example = f'example: {spelled} --text "the red circle moves right"'
    parser = OptionParser(prog=prog, description=__doc__, epilog=example)
    add = parser.add_argument
    names = f", or the name of an example: {', '.join(shipped_names('examples'))}" if prog else ""
    add("--frame", metavar="IMAGE", help=f"starting image: frame 0 of the video{names}")
    add("--last-frame", metavar="IMAGE", help="image in which the video ends, for models trained with last frames")
    add("--text", action="append", help='caption; repeat as "0: ..." "8: ..." for one that holds from that frame on')
    add("--checkpoint", metavar="NAME_OR_DIR", help="a shipped model, or a model or run folder (default: sprites)")
    add(
        "--out",
        metavar="FILE_OR_DIR",
        help=".mp4, .gif, .webp; or a folder: video.mp4, frames/*.png (default: a free name in out/)",
    )
    add_flags(parser)
    add("--device", help="auto, cpu, cuda or cuda:1 (default: auto)")
    add("--scale", type=int, metavar="N", help="enlarge the saved frames N times (default: to about 256 px; .webp: 1)")
    add(
        "--fit",
        metavar="HOW",
        choices=get_args(Fit),
        help="images of another shape than the model's frames: crop, letterbox, or exact to refuse them",
    )
    batch_run.add_flags(parser)
    again = "sample the video of this .json, or of a video that carries its recipe, again; other options override it"
    add("--from-json", "--from", metavar="FILE", help=again)
    kept = "write the settings and the starting frame into the video itself, too (default: yes)"
    add("--recipe", action=argparse.BooleanOptionalAction, default=True, help=kept)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """`inference.py`, and `cdcd-video sample`.

    Args:
      arguments: the words of the command line; None: those of this process.
      prog: how the command is called; None: as this process.
    """
    asked = vars(parse_arguments(arguments, prog))
    if batch_run.is_batch(asked):
        batch_run.sample_batch(asked)
        return
    order = request.read_request(asked)
    with request.chosen_target(asked) as target:
        sample(order, target)


def sample(order: request.Request, target: request.Target) -> None:
    """Samples a video, writes it, and prints the paths that were written."""
    import torch
    from tqdm import tqdm

    from cdcd_video.config import SamplingParams
    from cdcd_video.config.model_digest import earlier_digests
    from cdcd_video.config.video_record import differences
    from cdcd_video.engine import runtime
    from cdcd_video.pipeline import ImageToVideo

    SamplingParams().changed(**order.sampling)  # reports a wrong value before the model is loaded
    device = runtime.device_for(order.device)
    pipe = ImageToVideo.from_pretrained(order.checkpoint, str(device))
    if order.again:
        pipe.num_threads = order.again.threads
    params = pipe.defaults(**order.sampling)
    machine = {"device": str(device), "threads": pipe.num_threads or torch.get_num_threads()}
    settings = pipe.settings(order.captions, params, order.negative_prompt)
    folder = pipe.model.folder
    earlier = (lambda: earlier_digests(folder)) if folder else tuple
    note(*differences(order.again, settings | machine, earlier))
    with notes_on_stderr():
        given = order.last.pixels if order.last else None
        parts = pipe.stream(
            order.start,
            order.captions,
            params,
            progress=lambda frames: bar.update(frames),
            negative_prompt=order.negative_prompt,
            last_image=given,
            fit=order.fit,
        )
    last = None
    if given is not None:
        size = pipe.sizes.fitted(order.start, order.fit)[0].shape[:2]
        last = pipe.sizes.fitted_to(size, given, order.fit)[0]
    with tqdm(total=params.num_frames - 1, desc="sampling", unit="frame") as bar:
        written = request.write(parts, settings, target, order, last, **machine)
    for path in written:
        sys.stdout.write(f"{path}\n")
