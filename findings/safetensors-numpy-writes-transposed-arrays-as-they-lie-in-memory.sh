#!/usr/bin/env bash
# safetensors 0.8.0. save and save_file of safetensors.numpy should write an array's values in their order, as 0.7.0 does, or refuse
# what they cannot, as safetensors.torch does. They write the memory from the array's first value on: x.T and frames of
# (channels, height, width) made by transpose or moveaxis come back in their new shape with the values in the old order, an array in
# Fortran order, as loadmat gives, is scrambled, and x[:, ::2] comes back as the first half of x. Nothing warns, and shapes and means
# of whole arrays are right, so that weights and latents are wrong after an update of the package and files before it are not.
# The docstring asks for contiguous arrays. Do instead: np.ascontiguousarray of each value.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 0.7.0 0.8.0; do
  "${PYTHON:-python3}" -m venv "$work/$version"
  "$work/$version/bin/pip" install -qq --disable-pip-version-check "safetensors==$version" numpy==2.4.6
done
cat > "$work/turn.py" <<'EOF'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, load_file, save, save_file

print("safetensors", safetensors.__version__)
frame = np.arange(24.0).reshape(2, 4, 3)
arrays = {
    "as it is": frame,
    "moved axis": np.moveaxis(frame, -1, 0),
    "Fortran order": np.asfortranarray(frame),
    "every second column": frame[:, ::2],
    "made contiguous": np.ascontiguousarray(np.moveaxis(frame, -1, 0)),
}
right = {}
for name, array in arrays.items():
    save_file({"x": array}, "x.safetensors")
    back, again = load(save({"x": array}))["x"], load_file("x.safetensors")["x"]
    assert back.shape == array.shape and np.array_equal(back, again)
    right[name] = np.array_equal(back, array)
    print(f"  {name} {array.shape}: {'the same' if right[name] else f'{back.ravel()[:4]} for {array.ravel()[:4]}'}")
wrong = [] if sys.argv[1] == "0.7.0" else ["moved axis", "Fortran order", "every second column"]
assert [name for name in arrays if not right[name]] == wrong, "other arrays are written wrongly"
EOF
cd "$work"
for version in 0.7.0 0.8.0; do
  "$version/bin/python" turn.py "$version"
done
