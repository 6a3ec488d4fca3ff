#!/usr/bin/env bash
# datasets 5.2.0. load_dataset("imagefolder") of a folder for each class should give every picture. The folder's own splits are
# found by words such as train, test, val, dev or eval, and those are looked for in all of the path, class and file names too.
# Kinetics has a class "training dog". With folders "training dog", "riding a bike" and "walking the dog" the result is a split train
# of that one class, without labels, and the two others are gone in silence. It is worse where the splits are real: with
# train/crash test and validation/crash test there are three splits, and test has both of them, so that pictures of train are in test.
# videofolder finds its files in the same way. A class named after the word is enough, wherever "-", "_", a space or a digit parts it.
# Do instead: name the files: data_files={"train": "set/train/**", "validation": "set/validation/**"}, and count what was found.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 numpy==2.4.6 pandas==2.3.3 pyarrow==26.0.1
cd "$work"
export HF_HOME="$work/cache" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 HF_HUB_DISABLE_TELEMETRY=1
venv/bin/python -W ignore - <<'EOF'
import collections, importlib.metadata, shutil
from pathlib import Path

import datasets
from PIL import Image

print("datasets", importlib.metadata.version("datasets"))
datasets.disable_progress_bars()


def splits(folders, **how):
    shutil.rmtree("set", ignore_errors=True)
    for number, folder in enumerate(folders):
        Path("set", folder).mkdir(parents=True)
        for frame in range(4):
            Image.new("L", (8, 8), 20 * number + frame).save(f"set/{folder}/{frame:03}.png")
    found = datasets.load_dataset("imagefolder", data_dir=None if how else "set", **how)
    return {name: collections.Counter(folders[row["image"].getpixel((0, 0)) // 20] for row in part) for name, part in found.items()}


plain = splits(["skating", "riding a bike", "walking the dog"])
print("three classes:", {name: dict(part) for name, part in plain.items()})
assert list(plain) == ["train"] and plain["train"].total() == 12
dog = splits(["training dog", "riding a bike", "walking the dog"])
print("one of them 'training dog':", {name: dict(part) for name, part in dog.items()})
assert dog == {"train": {"training dog": 4}}, "words in the class count no longer"
folders = ["train/skating", "train/crash test", "validation/skating", "validation/crash test"]
mixed = splits(folders)
print("two splits with a class 'crash test':", {name: dict(part) for name, part in mixed.items()})
assert mixed["test"] == {"train/crash test": 4, "validation/crash test": 4} and mixed["train"].total() == 8
named = splits(folders, data_files={name: f"set/{name}/**" for name in ("train", "validation")})
print("with data_files:", {name: part.total() for name, part in named.items()})
assert {name: part.total() for name, part in named.items()} == {"train": 8, "validation": 8}
EOF
