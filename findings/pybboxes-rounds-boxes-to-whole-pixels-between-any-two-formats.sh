#!/usr/bin/env bash
# pybboxes 0.1.6. A YOLO box is a centre and a size as parts of the picture, and the formats of Albumentations and FiftyOne are such
# parts as well, so that converting one to another needs no pixels and should keep all digits. COCO's boxes have fractions of pixels.
# Every box goes by way of corners that are rounded to whole pixels, between two formats of parts too, and from a format to itself: at
# 64 x 48, as for tiny models, the YOLO box (0.507, 0.493, 0.0314, 0.0471) comes back as (0.5, 0.5, 0.03125, 0.04167). The
# result looks exact, as it has sixteen digits. Boxes that stand still then jump by pixels from frame to frame, the IoU of a small one with
# what it was is 0.5 here, and one that is less than a pixel wide may raise ValueError. With a large image_size the loss is small.
# Do instead: compute it yourself, which takes two lines, or pass an image_size a thousand times as large between formats of parts.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pybboxes==0.1.6 numpy==2.4.6
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata

from pybboxes import convert_bbox

print("pybboxes", importlib.metadata.version("pybboxes"))
SIZE = (64, 48)
x, y, width, height = yolo = (0.507, 0.493, 0.0314, 0.0471)
right = {
    "yolo": yolo,
    "albumentations": (x - width / 2, y - height / 2, x + width / 2, y + height / 2),
    "fiftyone": (x - width / 2, y - height / 2, width, height),
}


def corners(yolo):
    x, y, width, height = yolo
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def iou(first, second):
    (a, b, c, d), (e, f, g, h) = corners(first), corners(second)
    common = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
    return common / ((c - a) * (d - b) + (g - e) * (h - f) - common)


for name, expected in right.items():
    found = convert_bbox(yolo, from_type="yolo", to_type=name, image_size=SIZE)
    large = convert_bbox(yolo, from_type="yolo", to_type=name, image_size=(64000, 48000))
    print(f"yolo {yolo} to {name}: {found}, right {tuple(round(value, 5) for value in expected)}")
    assert max(abs(a - b) for a, b in zip(found, expected)) > 0.005, "fractions of pixels are kept now"
    assert max(abs(a - b) for a, b in zip(large, expected)) < 5e-5
    # sides lie on whole pixels, and centres on halves
    assert all((value * 2 * side).is_integer() for value, side in zip(found, SIZE * 2))
same = convert_bbox(yolo, from_type="yolo", to_type="yolo", image_size=SIZE)
print(f"IoU of the box with itself from yolo to yolo: {iou(yolo, same):.2f}")
assert iou(yolo, same) < 0.6
coco = convert_bbox((10.4, 20.6, 5.5, 7.5), from_type="coco", to_type="yolo", image_size=SIZE)
exact = ((10.4 + 2.75) / 64, (20.6 + 3.75) / 48, 5.5 / 64, 7.5 / 48)
print("coco (10.4, 20.6, 5.5, 7.5) to yolo:", coco, "right", tuple(round(value, 5) for value in exact))
assert coco == (13 / 64, 25 / 48, 6 / 64, 8 / 48)
try:
    convert_bbox((0.5, 0.5, 0.009, 0.2), from_type="yolo", to_type="fiftyone", image_size=SIZE)
except ValueError as error:
    print("a box 0.58 pixels wide:", error)
else:
    raise AssertionError("thin boxes are converted now")
EOF
