#!/usr/bin/env bash
# netCDF4 1.7.5. Frames of uint8 written to a variable that is filled completely should come back as they are, as from h5py 3.16.0;
# print(variable) says so: "default _FillValue of 255 ignored".
# variable[:] is a masked array, and masked is what equals the default fill value: 255. All white of a video is missing then. Of a
# red square on white ground, max() is 200 and not 255, (frames == 255).sum() is 0, and mean() is 67 and not 208, as it goes over
# the rest alone, for each channel another part. So the statistics for normalisation are wrong, and a step that writes the frames on
# in its own way may fill what is masked. numpy.asarray still has the numbers, and so a look at the file shows nothing. int8 loses
# -127, int16 -32767, which quantised latents have.
# Do instead: dataset.set_auto_mask(False) after opening, or fill_value=False at createVariable.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check netCDF4==1.7.5.1.post1 h5py==3.16.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import h5py, netCDF4
import numpy as np

print("netCDF4", importlib.metadata.version("netCDF4"))
frames = np.full((4, 8, 8, 3), 255, np.uint8)
frames[:, 2:6, 2:6] = 200, 0, 0
latents = np.array([-127, -126, 0, 127], np.int8)
with netCDF4.Dataset("clip.nc", "w") as file:
    for name, size in zip("thwc", frames.shape):
        file.createDimension(name, size)
    file.createVariable("clip", "u1", tuple("thwc"))[:] = frames
    file.createVariable("without", "u1", tuple("thwc"), fill_value=False)[:] = frames
    file.createVariable("latents", "i1", ("t",))[:] = latents
with h5py.File("clip.nc") as file:
    assert np.array_equal(file["clip"][()], frames) and np.array_equal(file["latents"][()], latents)
with netCDF4.Dataset("clip.nc") as file:
    print(str(file["clip"]).splitlines()[-1])
    read = file["clip"][:]
    print(f"written: max {frames.max()}, white {(frames == 255).sum()}, mean {frames.mean():.2f}, of channels {frames.mean((0, 1, 2))}")
    print(f"read: max {read.max()}, white {(read == 255).sum()}, mean {read.mean():.2f}, of channels {read.mean((0, 1, 2))}")
    assert np.array_equal(np.asarray(read), frames)
    assert isinstance(read, np.ma.MaskedArray) and np.array_equal(read.mask, frames == 255), "white is no longer masked"
    assert read.max() == 200 and abs(frames.mean() - 207.92) < 0.01 and abs(read.mean() - 66.67) < 0.01
    print("latents of int8:", file["latents"][:])
    assert file["latents"][:].mask.tolist() == [True, False, False, False]
    assert not np.ma.is_masked(file["without"][:]) and file["without"][:].mean() == frames.mean()
    file.set_auto_mask(False)
    assert type(file["clip"][:]) is np.ndarray and np.array_equal(file["clip"][:], frames)
EOF
