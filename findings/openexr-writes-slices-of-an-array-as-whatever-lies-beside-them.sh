#!/usr/bin/env bash
# OpenEXR 3.5.3, the Python package. A File of channels, as {"R": image[..., 0], ...}, should write the values of those arrays. It
# writes the memory that begins where the array begins, and heeds no strides: channels that are slices of an RGB image hold R, G,
# B, R, ... of its first third, one picture of three repeated; a crop image[:, :64] holds the columns beside it instead of the
# rows below. Shapes are right, and no error is raised. A whole array, which is contiguous, is written as it is. Flow, depth and
# layers are mostly written channel by channel, from slices of one array. Do instead: np.ascontiguousarray(image[..., 0]) for
# every channel, or the whole array under the name "RGB".
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check OpenEXR==3.5.3 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import numpy as np
import OpenEXR

print("OpenEXR", importlib.metadata.version("OpenEXR"))
image = np.arange(24, dtype=np.float32).reshape(2, 4, 3)


def copy(channels):
    """The channels, written and read again."""
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, dict(channels)).write("a.exr")
    with OpenEXR.File("a.exr", separate_channels=True) as file:
        return {name: channel.pixels for name, channel in file.channels().items()}


slices = {name: image[..., index] for index, name in enumerate("RGB")}
read = copy(slices)
for name in "RGB":
    print(f"{name}: written {slices[name].tolist()}, read {read[name].tolist()}")
    assert not np.array_equal(read[name], slices[name]), "slices are written as they are"
assert np.array_equal(read["G"], image.ravel()[1:9].reshape(2, 4))
crop = {"Y": image[:, :2, 0]}
assert not np.array_equal(copy(crop)["Y"], crop["Y"])
whole = copy({name: np.ascontiguousarray(values) for name, values in slices.items()})
assert all(np.array_equal(whole[name], slices[name]) for name in "RGB")
assert all(np.array_equal(copy({"RGB": image})[name], slices[name]) for name in "RGB")
EOF
