#!/usr/bin/env bash
# pycocotools 2.0.11 and faster-coco-eval 1.8.0. Ids of annotations may be any different whole numbers, and a detector whose boxes equal
# the annotations should have an average precision of 1 however they are counted.
# COCOeval notes the id of the annotation that a detection is matched to, and takes 0 for "no match". If ids are counted from 0, as
# enumerate() does, one object of the set counts as never found and its detection as a false alarm: three perfect boxes have 0.44
# instead of 1, the more so the surer that detection is. The loss shrinks with the size of the set, so that small sets and single
# videos, scored one by one with ids from 0 each, suffer most. Nothing warns, in either library.
# Do instead: count the ids of annotations from 1. (Ids of pictures and categories may be 0.)
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pycocotools==2.0.11 faster-coco-eval==1.8.0 numpy==2.4.6
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import contextlib
import importlib.metadata
import io

import faster_coco_eval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

libraries = {"pycocotools": (COCO, COCOeval), "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)}


def precision(library, first_annotation, first_picture, objects):
    """Mean average precision of boxes that equal the annotations, one object in each picture."""
    Coco, Evaluation = libraries[library]
    truth, found = [], []
    for number in range(objects):
        box = {"image_id": first_picture + number, "category_id": 0, "bbox": [10, 10, 20, 20]}
        truth.append(box | {"id": first_annotation + number, "area": 400, "iscrowd": 0})
        found.append(box | {"score": 1 - number / 10})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = Coco()
        coco.dataset = {
            "info": {},
            "images": [{"id": first_picture + number, "width": 64, "height": 64} for number in range(objects)],
            "categories": [{"id": 0, "name": "dog"}],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = Evaluation(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return round(float(evaluation.stats[0]), 3)


for library in libraries:
    print(library, importlib.metadata.version(library))
    for objects, expected in ((3, 0.442), (10, 0.811)):
        from_1, from_0 = precision(library, 1, 0, objects), precision(library, 0, 0, objects)
        print(f"{objects} perfect boxes: average precision {from_1} with ids of annotations from 1, {from_0} from 0")
        assert from_1 == precision(library, 7, 1, objects) == 1
        assert from_0 == expected, "the annotation with id 0 is matched now"
EOF
