#!/usr/bin/env bash
# PyTables (tables) 3.11.1. A table described by a class with the columns x, y, w and h, in this order, should take append([(10, 20,
# 30, 40)]) as x = 10, y = 20, w = 30, h = 40, as one made from a NumPy dtype does.
# Columns of a class or dict without pos are sorted by name, and append goes by place: h is 10, w 20, x 30 and y 40. Even a
# structured array with fields named x, y, w and h is taken by place, and its names are not looked at. All is of one type, so
# nothing is refused; boxes are elsewhere and of other sizes, and times called start and stop are right by luck, start and end are
# exchanged. Rows written with table.row["x"] = ... are right.
# Do instead: give pos to each column, or describe the table by a NumPy dtype, and append arrays of table.dtype.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check tables==3.11.1 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

import numpy as np
import tables

print("tables", importlib.metadata.version("tables"))


class Box(tables.IsDescription):
    x = tables.Float32Col()
    y = tables.Float32Col()
    w = tables.Float32Col()
    h = tables.Float32Col()


names = ["x", "y", "w", "h"]
dtype = np.dtype([(name, "f4") for name in names])
right, wrong = [10, 20, 30, 40], [30, 40, 20, 10]
with tables.open_file("boxes.h5", "w") as file:
    for kind, description in (("of_class", Box), ("of_dict", {name: tables.Float32Col() for name in names}), ("of_dtype", dtype),
                              ("with_pos", {name: tables.Float32Col(pos=place) for place, name in enumerate(names)})):
        table = file.create_table("/", kind, description)
        table.append([(10, 20, 30, 40)])
        table.append(np.array([(10, 20, 30, 40)], dtype))
        table.row["x"], table.row["y"], table.row["w"], table.row["h"] = right
        table.row.append()
        table.flush()
        of_tuple, of_fields, of_row = ([int(row[name]) for name in names] for row in table[:])
        print(f"{kind}: columns {table.colnames}; x, y, w, h of a tuple {of_tuple}, of an array with fields {of_fields}, of table.row {of_row}")
        assert of_row == right
        if kind in ("of_class", "of_dict"):
            assert table.colnames == sorted(names) and of_tuple == of_fields == wrong, "columns keep their order now"
        else:
            assert of_tuple == of_fields == right
    table = file.create_table("/", "times", {"start": tables.Float32Col(), "end": tables.Float32Col()})
    table.append([(1.5, 2)])
    print("start and end of (1.5, 2):", table[0]["start"], table[0]["end"])
    assert table[0]["start"] == 2 and table[0]["end"] == 1.5
EOF
