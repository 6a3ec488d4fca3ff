#!/usr/bin/env bash
# h5py 3.16.0, zarr 3.1.6. Frames that are stored in an array of uint8 should be stored alike by both, as both are used like NumPy
# arrays: dataset[:] = frames. NumPy's astype wraps around, 300 to 44 and -1 to 255.
# zarr does as NumPy. h5py leaves arrays to HDF5, which clips: 300 is 255 and -1 is 0; create_dataset(dtype=...) and reading as
# uint8 do so too. So int16 frames with noise or sharpening, which leave 0 to 255 a little, look right from HDF5, and have
# black specks in white and white ones in black from zarr; whoever moves a data set from one to the other changes its pictures,
# and int16 labels of -1 for "none" become class 0 in one and 255 in the other. Nothing is raised by either.
# Do instead: frames.clip(0, 255).round().astype(numpy.uint8) before any store.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check h5py==3.16.0 zarr==3.1.6 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import importlib.metadata, io

import h5py
import numpy as np
import zarr

print("h5py", importlib.metadata.version("h5py"), "with HDF5", h5py.version.hdf5_version)
print("zarr", importlib.metadata.version("zarr"))
file = h5py.File(io.BytesIO(), "w")
for kind in (np.int16, np.int32, np.int64):
    frames = np.array([300, -1, 256, -200, 7], kind)
    stored = file.create_dataset(f"of-{np.dtype(kind)}", frames.shape, "u1")
    stored[:] = frames
    made = file.create_dataset(f"made-{np.dtype(kind)}", data=frames, dtype="u1")
    read = file.create_dataset(f"wide-{np.dtype(kind)}", data=frames).astype("u1")
    array = zarr.create_array({}, shape=frames.shape, dtype="uint8")
    array[:] = frames
    print(f"{np.dtype(kind)} {frames.tolist()}: h5py {stored[:].tolist()}, zarr {array[:].tolist()}, astype"
          f" {frames.astype(np.uint8).tolist()}")
    for found in (stored[:], made[:], read[:]):
        assert found.tolist() == [255, 0, 255, 0, 7], "h5py no longer clips"
    assert array[:].tolist() == frames.astype(np.uint8).tolist() == [44, 255, 0, 56, 7], "zarr no longer wraps"
rng = np.random.default_rng(0)
picture = np.where(np.arange(64) < 32, 2, 253) + np.zeros((64, 1), int)  # nearly black on the left, nearly white on the right
noisy = (picture + rng.normal(0, 2, picture.shape).round()).astype(np.int16)
stored = file.create_dataset("noisy", noisy.shape, "u1")
array = zarr.create_array({}, shape=noisy.shape, dtype="uint8")
stored[:] = noisy
array[:] = noisy
errors = [float(np.abs(kept[:].astype(int) - picture).mean()) for kept in (stored, array)]
print(f"noise of two levels near black and white: mean distance from the picture {errors[0]:.2f} from h5py,"
      f" {errors[1]:.2f} from zarr")
assert errors[0] < 2 < 10 < errors[1]
PY
