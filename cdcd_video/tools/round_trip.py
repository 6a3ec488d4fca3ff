"""Measures the reconstruction of the first frames of the validation clips by the codec, and stores it in the model folder.

Training does this; the command is for older models. Sampling warns of given frames that are reconstructed worse.
"""

import sys

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.errors import exit_code


def main() -> int:
    parser = OptionParser(prog="python -m cdcd_video.tools.round_trip", description=__doc__)
    parser.add_argument("checkpoint", metavar="NAME_OR_DIR", help="a shipped model, or a model or run folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    args = parser.parse_args()

    from cdcd_video.config import Config, config_file
    from cdcd_video.engine.runtime import device_for, replace_file, writing_to
    from cdcd_video.kernels.threads import threads
    from cdcd_video.model import build_codec, clip_folder, folder_of, load_module
    from cdcd_video.networks.clip import FrozenClip
    from cdcd_video.networks.codec import start_thresholds
    from cdcd_video.training.training_data import open_clips

    folder = folder_of(args.checkpoint)
    config = config_file.load(folder / "config.yaml", Config)
    device = device_for(args.device)
    clip = FrozenClip(clip_folder(config, folder)).to(device)
    codec = load_module(build_codec(config, clip), folder / "codec.safetensors").to(device).eval()
    with threads(config.num_threads or None):
        found = start_thresholds.measure(codec, clip, open_clips(config, "val"))
    with writing_to(folder):
        replace_file(folder / start_thresholds.FILE, found)
    sys.stdout.write(f"{folder / start_thresholds.FILE}\n{found}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
