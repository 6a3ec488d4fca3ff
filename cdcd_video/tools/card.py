"""Writes the model card of a model folder: README.md with the Hub's header, and the moving sample beside it.

Training does this; the command adds scores, and is for older models.
"""

import sys
from pathlib import Path

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import exit_code


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.card", description=__doc__)
    add = parser.add_argument
    add("checkpoint", metavar="NAME_OR_DIR", help="a shipped model, or a model or run folder")
    where = "folders that evaluate.py wrote for these weights (default: the run's own, if it is of them)"
    add("--scores", nargs="+", type=Path, metavar="DIR", help=where)
    add("--no-sample", action="store_true", help="keep the moving sample as it is, if it is of these weights")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    args = parser.parse_args()

    from cdcd_video.model import folder_of
    from cdcd_video.training.hub_card import write_hub_card

    folder = folder_of(args.checkpoint)
    written = [] if args.no_sample else [write_sample(folder, args.device)]
    card = write_hub_card(folder, args.scores or [folder.parent], strict=args.scores is not None)
    sys.stdout.write("".join(f"{path}\n" for path in (*written, card)))
    return 0


def write_sample(folder: Path, device: str) -> Path:
    """Samples validation clips of the data that the config names.

    Raises:
      UserError: they are not here.
    """
    from cdcd_video.pipeline import ImageToVideo
    from cdcd_video.training.contact_sheets import sampled_rows
    from cdcd_video.training.moving_sample import MOST_CLIPS, write_moving_sample
    from cdcd_video.training.training_data import open_clips

    pipe = ImageToVideo.from_pretrained(folder, device)
    clips = open_clips(pipe.model.config, "val")
    rows = sampled_rows(pipe, clips, MOST_CLIPS)
    return write_moving_sample(rows, folder, clips.fps, pipe.model.digest)


if __name__ == "__main__":
    sys.exit(exit_code(main))
