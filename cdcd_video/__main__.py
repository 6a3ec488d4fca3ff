"""`python -m cdcd_video` says what this is and where to go on."""

import sys

import cdcd_video

COMMANDS = """
Commands, each with --help:
    python inference.py --frame x.png --text "..."     sample a video
    python train.py --config configs/NAME.yaml         train a model, or resume; --dry-run shows every tensor
    python evaluate.py                                 evaluate a model
    python -m data_prep folder DIR --captions FILE --out DIR    prepare a folder of clips for training
    make demo                                          everything once, in a few minutes
"""

if __name__ == "__main__":
    sys.stdout.write(f"cdcd_video {cdcd_video.__version__}: {cdcd_video.__doc__}{COMMANDS}")
