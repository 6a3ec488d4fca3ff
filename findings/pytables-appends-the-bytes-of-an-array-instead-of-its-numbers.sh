#!/usr/bin/env bash
# PyTables (tables) 3.11.1. Three boxes as an array of (3, 4), appended to a table with four columns of float32, should become three
# rows with these numbers, or be refused: append says that it takes whatever can be converted, and raises ValueError otherwise.
# It takes the array's bytes for rows. Of float32 that is right. Of float64, which NumPy makes by default, and of integers come
# three rows as well, of numbers that are in no box: 10, 20, 30, 40 is read as 0, 2.5625, 0, 2.8125. A list of lists instead of
# tuples becomes rows of one number each, 10, 10, 10, 10 and so on. The number of rows is right in all cases, and nothing is said.
# Do instead: append list(map(tuple, boxes)), which converts, or numpy.lib.recfunctions.unstructured_to_structured(boxes,
# table.dtype).
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check tables==3.11.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, warnings

import numpy as np
import tables
from numpy.lib.recfunctions import structured_to_unstructured, unstructured_to_structured

print("tables", importlib.metadata.version("tables"))
warnings.simplefilter("error")
boxes = np.array([[10, 20, 30, 40], [1, 2, 3, 4], [5, 6, 7, 8]], np.float64)
columns = {name: tables.Float32Col(pos=place) for place, name in enumerate("xywh")}
with tables.open_file("boxes.h5", "w") as file:
    def read(name, rows):
        """What a new table holds after append(rows), as an array of (rows, 4)."""
        table = file.create_table("/", name, columns)
        table.append(rows(table) if callable(rows) else rows)
        table.flush()
        found = structured_to_unstructured(table[:])
        print(f"{name}: {len(table)} rows, the first {found[0]}")
        assert len(table) == 3
        return found

    for name, rows in (("tuples", list(map(tuple, boxes))), ("float32", boxes.astype("f4")),
                       ("structured", lambda table: unstructured_to_structured(boxes, table.dtype))):
        assert np.array_equal(read(name, rows), boxes)
    found = read("float64", boxes)
    assert found[0].tolist() == [0, 2.5625, 0, 2.8125] and not (found == boxes).any(), "float64 is converted now"
    assert np.abs(read("int64", boxes.astype("<i8"))).max() < 1e-40
    assert np.array_equal(read("lists", boxes.tolist()), [[10] * 4, [20] * 4, [30] * 4])
EOF
