"""`python -m cdcd_video` says what this is and where to go on."""

import sys

import cdcd_video

COMMANDS = """
Commands, each with --help:
    python inference.py --frame x.png --text "..."     draw a video
    python train.py --config configs/NAME.yaml         train, or go on training; --dry-run shows every tensor
    python evaluate.py                                 measure a model
    python -m data_prep folder DIR --captions FILE --out DIR    make training data of a folder of clips
    make demo                                          all of it once, in a few minutes
"""

if __name__ == "__main__":
    sys.stdout.write(f"cdcd_video {cdcd_video.__version__}: {cdcd_video.__doc__}{COMMANDS}")
