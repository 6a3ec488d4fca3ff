"""Samples a video from an image and a caption, and writes a .json beside it that reproduces it."""

import argparse
import sys

from cdcd_video import request
from cdcd_video.config.sampling_params import add_flags
from cdcd_video.errors import exit_code, note, notes_on_stderr

EXAMPLE = 'example: python inference.py --frame examples/red-circle.png --text "the red circle moves right"'


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE)
    add = parser.add_argument
    add("--frame", metavar="IMAGE", help="starting image: frame 0 of the video")
    add("--text", action="append", help='caption; repeat as "0: ..." "8: ..." for one that holds from that frame on')
    add("--checkpoint", metavar="NAME_OR_DIR", help="a shipped model, or a model or run folder (default: sprites)")
    add(
        "--out",
        metavar="FILE_OR_DIR",
        help=".mp4, .gif, .webp; or a folder: video.mp4, frames/*.png (default: a free name in out/)",
    )
    add_flags(parser)
    add("--device", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    add("--scale", type=int, metavar="N", help="enlarge the saved frames N times (default: to about 256 px; .webp: 1)")
    add("--from-json", metavar="FILE", help="sample the video of this .json again; other options override it")
    return parser.parse_args()


def main() -> None:
    asked = vars(parse_arguments())
    order = request.read_request(asked)
    with request.chosen_target(asked) as target:
        sample(order, target)


def sample(order: request.Request, target: request.Target) -> None:
    import torch
    from tqdm import tqdm

    from cdcd_video.config import SamplingParams
    from cdcd_video.config.model_digest import earlier_digests
    from cdcd_video.engine import runtime
    from cdcd_video.pipeline import ImageToVideo

    SamplingParams().changed(**order.sampling)  # reports a wrong value before the model is loaded
    device = runtime.device_for(order.device)
    pipe = ImageToVideo.from_pretrained(order.checkpoint, str(device))
    if order.again:
        pipe.num_threads = order.again.threads
    params = pipe.defaults(**order.sampling)
    machine = {"device": str(device), "threads": pipe.num_threads or torch.get_num_threads()}
    settings = pipe.settings(order.captions, params)
    note(*request.differences(order.again, settings | machine, lambda: earlier_digests(pipe.model.folder)))
    with notes_on_stderr():
        parts = pipe.stream(order.start, order.captions, params, lambda frames: bar.update(frames))
    with tqdm(total=params.num_frames - 1, desc="sampling", unit="frame") as bar:
        written = request.write(parts, settings, target, order, **machine)
    for path in written:
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    sys.exit(exit_code(main))
