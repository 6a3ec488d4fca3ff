#!/usr/bin/env bash
# idx2numpy 1.2.3 reads the files of MNIST and its relatives. What it gives of one file should go into torch as that of another.
# Pictures and labels of MNIST are bytes and do. QMNIST's extended labels are four-byte integers, which idx files store with the
# highest byte first, and idx2numpy keeps that order in the dtype (>i4): torch.from_numpy and torch.tensor raise ValueError.
# NumPy itself computes with such arrays as with any others, so that it shows at the last step only.
# Do instead: array.astype(array.dtype.newbyteorder("=")) before torch.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check idx2numpy==1.2.3 numpy==2.4.6 torch==2.14.1
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata, struct

import idx2numpy
import numpy as np
import torch

print("idx2numpy", importlib.metadata.version("idx2numpy"), "torch", importlib.metadata.version("torch"))


def written(name, code, array):
    """An idx file: type code, number of axes, their lengths, values with the highest byte first."""
    lengths = struct.pack(f">{array.ndim}I", *array.shape)
    with open(name, "wb") as file:
        file.write(bytes([0, 0, code, array.ndim]) + lengths + array.astype(array.dtype.newbyteorder(">")).tobytes())
    return idx2numpy.convert_from_file(name)


plain = written("labels-idx1-ubyte", 0x08, np.arange(6, dtype=np.uint8))
assert torch.equal(torch.from_numpy(plain.copy()), torch.arange(6, dtype=torch.uint8))
wide = written("labels-idx2-int", 0x0C, np.arange(6, dtype=np.int32).reshape(2, 3))
print("bytes:", plain.dtype.str, " integers:", wide.dtype.str)
assert wide.dtype.str == ">i4" and wide.sum() == 15
for name in ("from_numpy", "tensor"):
    try:
        getattr(torch, name)(wide)
    except ValueError as error:
        print(f"torch.{name}: {str(error)[:70]}")
    else:
        raise SystemExit(f"torch.{name} takes big-endian arrays now")
native = torch.from_numpy(wide.astype(wide.dtype.newbyteorder("=")))
assert native.tolist() == [[0, 1, 2], [3, 4, 5]]
EOF
