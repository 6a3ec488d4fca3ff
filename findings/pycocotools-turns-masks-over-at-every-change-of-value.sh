#!/usr/bin/env bash
# pycocotools 2.0.11. mask.encode packs a uint8 mask, in which 0 is the ground. A value above 0 should be the object; encode
# takes 255 as well as 1. Each change of value down a column switches between object and ground, whatever the values are: from 1 to
# 2 the object ends, and what follows is turned over, to the foot of the column. So a disc whose edge is soft after resizing, or a mask
# that was saved as JPEG or cut out of a video, comes back as another shape, up to the edge of the frame, larger or smaller; and a
# mask of two touching instances loses one and gains the ground below. There is no error, and area and iou are of the wrong mask.
# Do instead: encode(np.asfortranarray(mask > 127).astype(np.uint8, order="F")), one instance at a time.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6 pillow==13.0.0
cd "$work"
venv/bin/python - <<'EOF'
import importlib.metadata, io

import numpy as np
import pycocotools.mask as coco
from PIL import Image

print("pycocotools", importlib.metadata.version("pycocotools"))


def turn(mask):
    code = coco.encode(np.asfortranarray(mask))
    return coco.decode(code), int(coco.area(code)), [int(number) for number in coco.toBbox(code)]


rows, columns = np.mgrid[:64, :64]
disc = np.where((rows - 32) ** 2 + (columns - 32) ** 2 < 400, 255, 0).astype(np.uint8)
soft = np.asarray(Image.fromarray(disc).resize((96, 96), Image.Resampling.BILINEAR))
saved = io.BytesIO()
Image.fromarray(disc).save(saved, "JPEG", quality=90)
areas = {}
for name, mask in (("hard", disc), ("resized", soft), ("JPEG", np.asarray(Image.open(saved)))):
    decoded, area, bounds = turn(mask)
    areas[name] = ((mask > 127).sum(), (mask > 0).sum(), area)
    print(f"{name} disc: {areas[name][0]} pixels above 127, {areas[name][1]} above 0; encoded {area}, bounds {bounds}")
    assert turn((mask > 127).astype(np.uint8))[1] == areas[name][0], "masks of 0 and 1 are changed"
assert len(set(areas["hard"])) == 1
assert areas["resized"][2] > areas["resized"][1], "soft masks are encoded otherwise now"
assert areas["JPEG"][2] != areas["JPEG"][0]
labels = np.zeros((20, 20), np.uint8)
labels[4:10, 4:16], labels[10:16, 4:16] = 2, 1
decoded, area, bounds = turn(labels)
print("a column of two touching instances:", labels[:, 8].tolist(), "becomes", decoded[:, 8].tolist())
assert decoded[:, 8].tolist() == [0] * 4 + [1] * 6 + [0] * 6 + [1] * 4
EOF
