#!/usr/bin/env bash
# mat73 0.65, which reads MATLAB's files of version 7.3. Boxes of a frame, one row of four numbers for each object, should come as
# (objects, 4) whatever their number, as scipy.io reads them from older files.
# A matrix with one row or one column loses that axis: three boxes are (3, 4), two are (2, 4), and a single one is (4,). len(boxes),
# the number of objects, goes 3, 2, 4; boxes.mean(0), the mean box, is one number for that frame; and a column of scores of a clip of
# one frame is (). Arrays of three axes and more keep all of them, so that grey clips of one frame are safe and their boxes are not.
# Where frames have one object or more, as in sets for tracking and pose, that happens in the middle of a set.
# Do instead: numpy.reshape(boxes, (-1, 4)) after every load, or read with h5py and turn the axes yourself.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check mat73==0.65 h5py==3.16.0 scipy==1.17.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import h5py
import mat73
import numpy as np
import scipy.io

print("mat73", importlib.metadata.version("mat73"))
arrays = {f"boxes{number}": np.arange(4.0 * number).reshape(number, 4) for number in (3, 2, 1)}
arrays |= {"scores": np.array([[0.5]]), "clip": np.zeros((1, 8, 8))}
with h5py.File("new.mat", "w", userblock_size=512) as file:
    for name, array in arrays.items():
        file.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_("double")
with open("new.mat", "r+b") as file:
    file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
scipy.io.savemat("old.mat", arrays)
new, old = mat73.loadmat("new.mat"), scipy.io.loadmat("old.mat")
shapes = {name: np.shape(new[name]) for name in arrays}
for name, array in arrays.items():
    print(f"{name}: written {array.shape}, scipy.io {old[name].shape}, mat73 {shapes[name]}")
    assert old[name].shape == array.shape and np.array_equal(np.reshape(new[name], array.shape), array)
assert shapes["boxes3"] == (3, 4) and shapes["boxes2"] == (2, 4) and shapes["clip"] == (1, 8, 8)
assert shapes["boxes1"] == (4,) and shapes["scores"] == (), "matrices of one row keep their shape"
print("objects by len:", [len(new[f"boxes{number}"]) for number in (3, 2, 1)])
EOF
