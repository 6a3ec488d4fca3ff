#!/usr/bin/env bash
# supervision 0.31.2. mask_to_xyxy gives the boxes of masks, which should be as large as the objects: a square of 10 x 10 pixels has
# the area 100, as pycocotools' toBbox says. The box ends at the last row and column of the object instead of behind them,
# (10, 10, 19, 19), and everything else in the library, box_area and box_iou_batch among them, takes the second corner for the end: its
# area is 81, and its IoU with the true box is 0.81. Small objects suffer most, one of 4 x 4 has 0.56 and counts as missed at 0.6. A line
# one pixel wide, a pole or a horizon, has the area 0 and the IoU 0 even with itself, so that copies of it are never suppressed
# and no tracker that goes by IoU ever matches it. polygon_to_xyxy of the object's outline does the same.
# Do instead: add 1 to the second corner, or use pycocotools.mask.toBbox.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check supervision==0.31.2 pycocotools==2.0.11 numpy==2.4.6
cd "$work"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'EOF'
import importlib.metadata

import numpy as np
import supervision
from pycocotools import mask as coco

print("supervision", importlib.metadata.version("supervision"), "pycocotools", importlib.metadata.version("pycocotools"))
masks = np.zeros((4, 64, 64), bool)
masks[0, 10:20, 10:20] = masks[1, 40:44, 40:44] = masks[2, 5, 5:40] = masks[3, 8:60, 50] = True
boxes = supervision.mask_to_xyxy(masks).astype(float)
right = np.array([coco.toBbox(coco.encode(np.asfortranarray(mask, np.uint8))) for mask in masks])
right[:, 2:] += right[:, :2]
areas = supervision.Detections(xyxy=boxes).box_area
ious = [float(supervision.box_iou_batch(right[[place]], boxes[[place]])[0, 0]) for place in range(4)]
itself = np.diag(supervision.box_iou_batch(boxes, boxes)).tolist()
for place, name in enumerate(("10 x 10", "4 x 4", "a flat line", "an upright line")):
    print(f"{name}: {masks[place].sum()} pixels, box {boxes[place].tolist()} of area {areas[place]:.0f}, right {right[place].tolist()}", end="")
    print(f"; IoU with the right box {ious[place]:.2f}, with itself {itself[place]:.0f}")
assert np.array_equal(right[:, 2:], boxes[:, 2:] + 1), "boxes end behind the mask now"
assert areas.tolist() == [81, 9, 0, 0] and masks.sum((1, 2)).tolist() == [100, 16, 35, 52]
assert np.round(ious, 2).tolist() == [0.81, 0.56, 0, 0] and itself == [1, 1, 0, 0]
kept = {}
for name, corners in (("mask_to_xyxy", boxes), ("right", right)):
    twice = corners.repeat(2, 0)
    found = supervision.Detections(xyxy=twice, confidence=np.linspace(0.9, 0.5, 8), class_id=np.zeros(8, int))
    kept[name] = len(found.with_nms(0.5))
print("each of the four found twice, boxes after with_nms(0.5):", kept)
assert kept == {"mask_to_xyxy": 6, "right": 4}
outline = supervision.mask_to_polygons(masks[0])[0]
assert supervision.polygon_to_xyxy(outline).tolist() == [10, 10, 19, 19] and supervision.polygon_to_mask(outline, (64, 64)).sum() == 100
EOF
