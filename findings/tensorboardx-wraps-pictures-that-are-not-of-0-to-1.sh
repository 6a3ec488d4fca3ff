#!/usr/bin/env bash
# tensorboardX 2.6.5. add_image and add_video take uint8, or floats of 0 to 1. What lies outside, such as a model's output of -1.2 to 1.1,
# should be cut off at black and white, as torch.utils.tensorboard does, or refused. It is multiplied by 255 and wraps around at 256:
# 1.02 is shown as 4, nearly black, and -0.02 as 251, nearly white, so that bright and dark places of samples are speckled with
# their opposites. All whole numbers other than uint8 are multiplied as well: grey of 100 as int64 is shown as 156, which looks like
# the negative of the picture, as 255 is -1 modulo 256. Someone who watches a training sees faults that the model does not have.
# Do instead: np.clip(picture, 0, 1) before it is logged, and astype(np.uint8) for whole numbers.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check tensorboardX==2.6.5 numpy==2.4.6 pillow==13.0.0
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import importlib.metadata
import io

import numpy as np
from PIL import Image
from tensorboardX.summary import image

print("tensorboardX", importlib.metadata.version("tensorboardX"))


def shown(value, kind):
    """A grey of the picture that is written for a picture of one value, as add_image makes it."""
    written = image("sample", np.full((3, 8, 8), value, kind)).value[0].image.encoded_image_string
    return int(np.asarray(Image.open(io.BytesIO(written)).convert("L"))[4, 4])


for value in (0.0, 0.5, 1.0, 1.02, -0.02, 2.0):
    print(f"{value} is shown as {shown(value, np.float32)}")
assert [shown(value, np.float32) for value in (0.0, 0.5, 1.0)] == [0, 127, 255]
assert shown(1.02, np.float32) == 4 and shown(-0.02, np.float32) == 251, "values are cut off now"
whole = {kind.__name__: [shown(value, kind) for value in (0, 100, 255)] for kind in (np.uint8, np.int64, np.int32, np.uint16)}
print("0, 100 and 255 are shown as", whole)
assert whole.pop("uint8") == [0, 100, 255]
assert all(greys == [0, 156, 1] for greys in whole.values()), "whole numbers are taken as they are now"
EOF
